"""Llama weights in the layout of Hugging Face checkpoints, one to one.

    model.embed_tokens.weight                    embed_tokens.embedding
    model.layers.<i>.<part>.<name>_proj.weight   layers[i].<part>.<name>_proj.kernel   (transposed)
    model.layers.<i>.<name>_layernorm.weight     layers[i].<name>_layernorm.scale
    model.norm.weight                            norm.scale
    lm_head.weight                               lm_head.kernel                        (transposed; untied only)

Both rotate the two halves of each head, so nothing is permuted.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.model import Model, Params, from_nnx
from jaxdec.models.transformer import Transformer, TransformerConfig


def llama_config(hf_config: Mapping[str, Any]) -> TransformerConfig:
    """The sizes of a Llama `config.json`; what it leaves out has Llama's defaults.

    Raises:
      ValueError: if a size is missing, or a field asks for what `Transformer` does not compute: another model type or
        activation, scaled rotary frequencies, biases.
    """
    rope = hf_config.get("rope_parameters") or {}  # where newer checkpoints keep theta
    scaling = hf_config.get("rope_scaling")
    if rope.get("rope_type", "default") != "default":
        scaling = rope
    supported = [
        ("model_type", hf_config.get("model_type", "llama"), "llama"),
        ("hidden_act", hf_config.get("hidden_act", "silu"), "silu"),
        ("rope_scaling", scaling, None),
        ("attention_bias", hf_config.get("attention_bias", False), False),
        ("mlp_bias", hf_config.get("mlp_bias", False), False),
    ]
    for name, value, only in supported:
        if value != only:
            raise ValueError(f"{name} {value!r} is not supported, only {only!r}")

    def size(name: str) -> int:
        if hf_config.get(name) is None:
            raise ValueError(f"the configuration has no {name}")
        return int(hf_config[name])

    width, heads = size("hidden_size"), size("num_attention_heads")
    return TransformerConfig(
        vocab_size=size("vocab_size"),
        width=width,
        layers=size("num_hidden_layers"),
        heads=heads,
        kv_heads=int(hf_config.get("num_key_value_heads") or heads),
        head_dim=int(hf_config.get("head_dim") or width // heads),
        hidden=size("intermediate_size"),
        max_length=int(hf_config.get("max_position_embeddings", 2048)),
        rope_theta=float(hf_config.get("rope_theta") or rope.get("rope_theta", 10000.0)),
        norm_epsilon=float(hf_config.get("rms_norm_eps", 1e-6)),
        tied=bool(hf_config.get("tie_word_embeddings", False)),
    )


def _abstract(config: TransformerConfig) -> Transformer:
    """The network with shapes in place of arrays."""
    return nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))


def _name(path: tuple[Any, ...]) -> tuple[str, bool]:
    """The tensor's name for a leaf of the parameters, and whether it is stored transposed."""
    *modules, leaf = (str(key.key) for key in path)
    name = ".".join([*modules, "weight"])
    return name if modules[0] == "lm_head" else f"model.{name}", leaf == "kernel"


def from_llama(
    tensors: Mapping[str, Any], config: TransformerConfig, dtype: jax.typing.DTypeLike = jnp.float32
) -> Params:
    """Parameters of a `Transformer` from the tensors of a Llama checkpoint.

    Args:
      tensors: arrays by name, as a safetensors file holds them.
      config: sizes, such as `llama_config` gives.
      dtype: of the parameters.

    Returns:
      A nested dict of arrays, as `from_nnx` gives.

    Raises:
      ValueError: naming the tensor, if one is missing, unknown or has another shape.
    """
    # Older checkpoints store the rotary frequencies too; they follow from the configuration.
    unknown = {name for name in tensors if not name.endswith(".rotary_emb.inv_freq")}

    def one(path, expected):
        name, transposed = _name(path)
        if name not in tensors:
            raise ValueError(f"tensor {name!r} is missing")
        unknown.discard(name)
        shape = expected.shape[::-1] if transposed else expected.shape
        if tensors[name].shape != shape:
            raise ValueError(
                f"tensor {name!r} has shape {list(tensors[name].shape)}, expected {list(shape)}"
            )
        tensor = jnp.asarray(tensors[name], dtype)
        return tensor.T if transposed else tensor

    params = jax.tree_util.tree_map_with_path(one, from_nnx(_abstract(config))[1])
    if unknown:
        raise ValueError(
            f"tensor {min(unknown)!r} is unknown to a {'tied' if config.tied else 'untied'} Llama of "
            f"{config.layers} layers ({len(unknown)} such)"
        )
    return params


def to_llama(params: Params, config: TransformerConfig) -> dict[str, jax.Array]:
    """The tensors of a Llama checkpoint, by name, from parameters: the inverse of `from_llama`.

    Raises:
      ValueError: naming the tensor, if `params` does not fit `config`.
    """
    tensors = {}
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        name, transposed = _name(path)
        tensors[name] = x.T if transposed else x
    jax.eval_shape(lambda held: from_llama(held, config), tensors)  # checks names and shapes
    return tensors


def load_llama(
    folder: str | Path, dtype: jax.typing.DTypeLike = jnp.float32
) -> tuple[Model, Params]:
    """Loads a Llama checkpoint: `config.json` and all `*.safetensors` of a folder. Needs the `hf` extra.

    Args:
      folder: as Hugging Face tools write it.
      dtype: of the parameters.

    Returns:
      `(model, params)`, ready for a decoder.

    Raises:
      ValueError: if a file is missing, the configuration is not supported or a tensor does not fit it.
    """
    from safetensors.flax import load_file

    folder = Path(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not files:
        raise ValueError(f"{folder} must hold a config.json and at least one *.safetensors file")
    hf_config = json.loads((folder / "config.json").read_text())
    config = llama_config(hf_config)
    tensors = {name: x for file in files for name, x in load_file(file).items()}
    eos = hf_config.get("eos_token_id")
    eos = [] if eos is None else eos if isinstance(eos, list) else [eos]
    return from_nnx(_abstract(config), eos=eos)[0], from_llama(tensors, config, dtype)
