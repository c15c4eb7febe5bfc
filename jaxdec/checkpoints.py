"""Checkpoints: a folder with a configuration, weights and a card.

    <name>/config.json    sizes of the transformer, end-of-sequence tokens, what a model that fills masks fills, or
                          what kind of draft heads it is and their sizes; facts of the training run
    <name>/weights/       parameters, written by orbax
    <name>/README.md      the model card

The shipped ones are found beside the packages, in a source tree and in an installed wheel alike.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from flax import nnx

from jaxdec.any_subset import two_stream
from jaxdec.diffusion import canvas_model
from jaxdec.model import Heads, Model, Params, from_nnx
from jaxdec.models import HeadsConfig, Transformer, TransformerConfig, build_heads


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model and its weights.

    Attributes:
      name: the folder's name.
      model: what decoders take: causal, of any subset (`any_subset.two_stream`), or of a canvas
        (`diffusion.canvas_model`).
      params: float32 parameters, a nested dict.
      config: sizes.
      facts: what is known of the training run.
      fills: what a model that fills masks was trained for: `"subsets"`, a whole `"canvas"`, or `"blocks"`; else None.
      mask_token: of such a model, else None.
      block_size: the largest block that a model of blocks was trained on, else None.
    """

    name: str
    model: Model
    params: Params
    config: TransformerConfig
    facts: dict[str, Any]
    fills: str | None = None
    mask_token: int | None = None
    block_size: int | None = None

    @property
    def size(self) -> int:
        """Number of parameters."""
        return _size(self.params)


@dataclasses.dataclass(frozen=True)
class HeadsCheckpoint:
    """Draft heads and their weights.

    Attributes:
      name: the folder's name.
      kind: `"medusa"`, `"hydra"` or `"eagle"`.
      heads: what `jaxdec.drafters` take: `Heads`, or for EAGLE a `Model` that reads features.
      params: float32 parameters, a nested dict.
      config: sizes.
      target: name of the checkpoint that they draft for.
      facts: what is known of the training run.
    """

    name: str
    kind: str
    heads: Heads | Model
    params: Params
    config: HeadsConfig | TransformerConfig
    target: str
    facts: dict[str, Any]

    @property
    def model(self) -> Heads | Model:
        """What drafts; the same as `heads`."""
        return self.heads

    @property
    def size(self) -> int:
        """Number of parameters."""
        return _size(self.params)


def _size(params: Params) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


def folder() -> Path:
    """Where the shipped checkpoints lie: inside the installed package, or at the root of a source tree."""
    package = Path(__file__).parent
    inside = package / "checkpoints"
    return inside if inside.is_dir() else package.parent / "checkpoints"


def available() -> list[str]:
    """Names of the shipped checkpoints, of models and of draft heads."""
    return sorted(path.parent.name for path in folder().glob("*/config.json"))


def load_any(name: str | Path) -> Checkpoint | HeadsCheckpoint:
    """Loads a checkpoint of either kind.

    Args:
      name: a shipped checkpoint's name, or the path of a folder.

    Raises:
      ValueError: if there is no such checkpoint, or it is damaged.
    """
    return load_heads(name) if "heads" in _read(name)[1] else load(name)


def load(name: str | Path) -> Checkpoint:
    """Loads a checkpoint.

    Args:
      name: a shipped checkpoint's name, or the path of a folder.

    Raises:
      ValueError: if there is no such checkpoint, or it is damaged.
    """
    path, held = _read(name)
    if "heads" in held:
        raise ValueError(
            f"checkpoint {str(name)!r} holds draft heads ({held['heads']}), not a model of its own"
        )
    with _whole(name):
        config = TransformerConfig(**held["model"])
        abstract = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
        model, shapes = from_nnx(abstract, eos=held["eos"])
        params = _restore(path, shapes, held["dtype"])
    fills, mask_token = held.get("fills"), held.get("mask_token")
    if fills is not None:
        model = (two_stream if fills == "subsets" else canvas_model)(model, mask_token)
    return Checkpoint(
        path.name,
        model,
        params,
        config,
        held["facts"],
        fills=fills,
        mask_token=mask_token,
        block_size=held.get("block_size"),
    )


def load_heads(name: str | Path) -> HeadsCheckpoint:
    """Loads the checkpoint of draft heads.

    Args:
      name: a shipped checkpoint's name, or the path of a folder.

    Raises:
      ValueError: if there is no such checkpoint, it is damaged, or it holds a model.
    """
    path, held = _read(name)
    if "heads" not in held:
        raise ValueError(f"checkpoint {str(name)!r} holds a model, not draft heads")
    with _whole(name):
        kind = held["heads"]
        sizes = TransformerConfig if kind == "eagle" else HeadsConfig
        config = sizes(**held["model"])
        heads, shapes = build_heads(kind, config, abstract=True)
        params = _restore(path, shapes, held["dtype"])
        target, facts = held["target"], held["facts"]
    return HeadsCheckpoint(path.name, kind, heads, params, config, target, facts)


def _read(name: str | Path) -> tuple[Path, Any]:
    """The folder of a checkpoint, by its path or the name of a shipped one, and its configuration."""
    path = Path(name)
    if not (path / "config.json").is_file():
        path = folder() / str(name)
    if not (path / "config.json").is_file():
        raise ValueError(
            f"no checkpoint {str(name)!r}: it is neither a folder with a config.json nor one of the "
            f"shipped ones ({', '.join(available()) or 'none'})"
        )
    with _whole(name):
        return path, json.loads((path / "config.json").read_text())


@contextlib.contextmanager
def _whole(name: str | Path) -> Iterator[None]:
    """Turns whatever orbax or json make of a broken file into the one line that a user needs."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"checkpoint {str(name)!r} is damaged: {reason[0] if reason else type(error).__name__}"
        ) from error


def _restore(path: Path, shapes: Params, stored: str) -> Params:
    """The weights of a checkpoint as float32."""
    # The device is named, since orbax else looks for the one that wrote the weights.
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    dtype = jnp.dtype(stored)
    with ocp.StandardCheckpointer() as checkpointer:
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype, sharding=device), shapes)
        params = checkpointer.restore((path / "weights").absolute(), like)
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


def save(
    path: str | Path,
    config: TransformerConfig | HeadsConfig,
    params: Params,
    *,
    eos: Sequence[int] = (),
    facts: dict[str, Any] | None = None,
    fills: Literal["subsets", "canvas", "blocks"] | None = None,
    mask_token: int | None = None,
    block_size: int | None = None,
    heads: str | None = None,
    target: str | None = None,
    dtype: jax.typing.DTypeLike = jnp.bfloat16,
) -> None:
    """Writes a checkpoint to a new folder: weights first, the configuration last.

    Args:
      path: the folder; must not hold a checkpoint yet.
      config: sizes.
      params: parameters of that size.
      eos: tokens that end a sequence.
      facts: anything that JSON can hold.
      fills: for a model that fills masks, what it was trained for.
      mask_token: what stands at unknown positions, for such a model.
      block_size: the largest block, for a model of blocks.
      heads: for draft heads, their kind.
      target: for draft heads, the name of the checkpoint that they draft for.
      dtype: of the stored weights; bfloat16 halves the size.

    Raises:
      ValueError: if the folder holds a checkpoint already.
    """
    path = Path(path).absolute()
    if (path / "config.json").exists() or (path / "weights").exists():
        raise ValueError(f"{path} holds a checkpoint already")
    path.mkdir(parents=True, exist_ok=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "weights", jax.tree.map(lambda x: jnp.asarray(x, dtype), params))
    # A marker that orbax writes and does not read back; it names this machine's folders.
    (path / "weights" / "commit_success.txt").unlink(missing_ok=True)
    held: dict[str, Any] = {
        "model": dataclasses.asdict(config),
        "eos": list(eos),
        "dtype": jnp.dtype(dtype).name,
        "facts": facts or {},
    }
    if fills is not None:
        held |= {"fills": fills, "mask_token": mask_token}
    if block_size is not None:
        held["block_size"] = block_size
    if heads is not None:
        held |= {"heads": heads, "target": target}
    draft = path / "config.json.tmp"
    draft.write_text(json.dumps(held, indent=2) + "\n")
    draft.replace(path / "config.json")
