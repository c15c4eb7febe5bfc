"""Networks of known sizes, as shapes: nothing here makes or reads an array."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from jaxdec import checkpoint_folder
from jaxdec.diffusion import canvas_model
from jaxdec.model import Heads, Model, Params, from_nnx, heads_from_nnx
from jaxdec.models import HeadsConfig, Transformer, TransformerConfig, huggingface
from jaxdec.models.heads import KINDS, LAYERS

LLAMA_8B = TransformerConfig(
    vocab_size=128256,
    width=4096,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    hidden=14336,
    max_length=131072,
    rope_theta=500000.0,
    tied=False,
)
SIZES = {
    "llama-8b": LLAMA_8B,
    "llama-70b": dataclasses.replace(LLAMA_8B, width=8192, layers=80, heads=64, hidden=28672),
    "qwen3-0.6b": TransformerConfig(
        vocab_size=151936,
        width=1024,
        layers=28,
        heads=16,
        kv_heads=8,
        head_dim=128,
        hidden=3072,
        max_length=40960,
        rope_theta=1e6,
        norm_epsilon=1e-6,
        qk_norm="head",
    ),
    "llada-8b": TransformerConfig(
        vocab_size=126464,
        width=4096,
        layers=32,
        heads=32,
        kv_heads=32,
        head_dim=128,
        hidden=12288,
        max_length=4096,
        rope_theta=500000.0,
        tied=False,
    ),
}
"""Public models by short names, from their published `config.json`."""
_MASKS = {"llada-8b": 126336}


@dataclasses.dataclass(frozen=True)
class Sized:
    """What is known of a model without its weights.

    Attributes:
      name: by which it was asked for.
      config: of the network.
      mask_token: of a model that fills masks, else None.
      block: positions of the blocks that it was trained on, else None.
      architecture: of public checkpoints, by name; None for a `Transformer`.
    """

    name: str
    config: Any
    mask_token: int | None = None
    block: int | None = None
    architecture: str | None = None

    def network(self, layers: int | None = None, dtype: Any = "bfloat16") -> tuple[Model, Params]:
        """The network as a `Model`, and the shapes of its parameters.

        Args:
          layers: how many it has; its own number if not given.
          dtype: of parameters and caches.
        """
        config = self.config
        if layers is not None:
            config = dataclasses.replace(config, layers=layers)
        if self.architecture is not None:
            module = huggingface.named(self.architecture).abstract(config)
        else:
            module = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
        model, params = from_nnx(module, dtype=dtype)
        return model, cast(params, dtype)

    def decoded(self, model: Model) -> Model:
        """What decoders take of the network: of one that fills masks a canvas model."""
        return model if self.mask_token is None else canvas_model(model, self.mask_token)


def sized(name: str) -> Sized:
    """The sizes of a model.

    Args:
      name: one of `SIZES`, a shipped checkpoint, or the path of a folder with a `config.json`.

    Raises:
      ValueError: if there is no such model, or its configuration is not supported.
    """
    if name in SIZES:
        return Sized(name, SIZES[name], _MASKS.get(name))
    shipped = checkpoint_folder.available()
    if name not in shipped and not (Path(name) / "config.json").is_file():
        near = difflib.get_close_matches(name, [*SIZES, *shipped], n=3)
        listed = ", ".join(near or SIZES)
        raise ValueError(
            f"there is no model {name!r}: neither a folder with a config.json nor one of {listed}"
        )
    path, held = checkpoint_folder.read(name)
    if checkpoint_folder.is_public(held):
        kind = huggingface.of_fields(held)
        fills = kind.fills(held)
        mask, block = (None, None) if fills is None else (fills.mask_token, fills.block_size)
        return Sized(path.name, kind.config(held), mask, block, kind.name)
    if "heads" in held:
        raise ValueError(
            f"{name!r} holds heads on a model ({held['heads']}), not a model of its own"
        )
    config = checkpoint_folder.sizes(name, TransformerConfig, held["model"])
    return Sized(path.name, config, held.get("mask_token"), held.get("block_size"))


def heads(kind: str, config: TransformerConfig, dtype: Any = "bfloat16") -> tuple[Any, Params]:
    """Draft heads for a target, and the shapes of their parameters.

    Args:
      kind: `medusa`, `hydra`, or one of `jaxdec.models.heads.LAYERS`.
      config: the target's.
      dtype: of parameters and caches.
    """
    if kind in LAYERS:
        fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(TransformerConfig)}
        fields |= {"layers": 1, "layer_kinds": config.layer_kinds[:1], "mixture": None}
        one = LAYERS[kind](**fields)
        module = nnx.eval_shape(lambda: KINDS[kind](one, rngs=nnx.Rngs(0)))
        made: tuple[Heads | Model, Params] = from_nnx(module, dtype=dtype)
    else:
        small = HeadsConfig(config.vocab_size, config.width)
        made = heads_from_nnx(nnx.eval_shape(lambda: KINDS[kind](small, rngs=nnx.Rngs(0))))
    return made[0], cast(made[1], dtype)


def cast(params: Params, dtype: Any) -> Params:
    """Shapes of parameters in another type."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), params)
