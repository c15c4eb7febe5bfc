"""Growing a model without changing what it says.

Benchmarks need targets of many sizes whose drafts are accepted as often as those of a trained model. Layers whose
output projections are zero add nothing to the residual stream, but every one of their products is computed: the grown
model has the small one's text and acceptance at a large model's cost. Its results must be labelled as grown.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.model import Params, from_nnx
from jaxdec.models.config import TransformerConfig
from jaxdec.models.transformer import Transformer


def grow(
    config: TransformerConfig, params: Params, layers: int, *, hidden: int | None = None
) -> tuple[TransformerConfig, Params]:
    """The same model with more layers, and if asked wider feed-forward units: the same logits at a larger cost.

    Added layers are random but for `o_proj` and `down_proj`, which are zero; added feed-forward units have zero
    output weights. The random part is a function of the sizes alone.

    Args:
      config: sizes of the small model.
      params: its parameters, the nested dict of `from_nnx`; left as they are.
      layers: layers of the grown model in all.
      hidden: inner width of its SwiGLU units; as before if not given.

    Returns:
      `(config, params)` of the grown model.

    Raises:
      ValueError: if `layers` or `hidden` is smaller than the model's own, `params` is not of `config`, or its layers
        are not like those of a Llama.
    """
    hidden = config.hidden if hidden is None else hidden
    for name, size, own in [("layers", layers, config.layers), ("hidden", hidden, config.hidden)]:
        if size < own:
            raise ValueError(f"{name} must be at least the model's own {own}, got {size}")
    if len(params["layers"]) != config.layers:
        raise ValueError(f"params has {len(params['layers'])} layers, config has {config.layers}")
    if config.mixture or config.layer_kinds or config.placement != "pre" or not config.gated:
        raise ValueError("only a model whose layers are all like those of a Llama is grown")
    grown = dataclasses.replace(config, layers=layers, hidden=hidden)
    fresh = from_nnx(Transformer(grown, rngs=nnx.Rngs(0)))[1]["layers"]
    fresh = jax.tree.map(lambda x: x.astype(params["norm"]["scale"].dtype), fresh)
    blocks = {}
    for i, block in fresh.items():
        attention, mlp = block["self_attn"], block["mlp"]
        down = jnp.zeros_like(mlp["down_proj"]["kernel"])
        if i in params["layers"]:
            block = params["layers"][i]
            attention, old = block["self_attn"], block["mlp"]
            put = lambda into, x: into.at[: x.shape[0], : x.shape[1]].set(x)
            mlp = {name: {"kernel": put(mlp[name]["kernel"], old[name]["kernel"])} for name in mlp}
            down = put(down, old["down_proj"]["kernel"])
        else:
            zero = jnp.zeros_like(attention["o_proj"]["kernel"])
            attention = {**attention, "o_proj": {"kernel": zero}}
        mlp = {**mlp, "down_proj": {"kernel": down}}
        blocks[i] = {**block, "self_attn": attention, "mlp": mlp}
    return grown, {**params, "layers": blocks}
