"""Checkpoints: a folder of Hugging Face files, or one of this package with a configuration, weights and a card.

    <name>/config.json    sizes of the transformer, end-of-sequence tokens, what a model that fills masks fills, or
                          what kind of heads on a model it is and their sizes; facts of the training run
    <name>/weights/       parameters, written by orbax
    <name>/SHA256SUMS     hashes of both, checked on loading
    <name>/README.md      the model card

The shipped ones are found beside the packages, in a source tree and in an installed wheel alike.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from jaxdec import checkpoint_folder, files, text
from jaxdec.any_subset import two_stream
from jaxdec.diffusion import canvas_model
from jaxdec.model import Heads, Model, Params, ScoreHead, from_nnx
from jaxdec.models import Transformer, TransformerConfig, build_heads, huggingface
from jaxdec.models.heads import Sizes, sizes_of
from jaxdec.text import Tokenizer


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
      tokenizer: the folder's own, else that of bytes; None for a vocabulary that cannot hold every byte.
      defaults: settings of `jaxdec.generate` that the checkpoint proposes.
      architecture: of public checkpoints, its name; None for this package's own.
    """

    name: str
    model: Model
    params: Params
    config: TransformerConfig
    facts: dict[str, Any]
    fills: str | None = None
    mask_token: int | None = None
    block_size: int | None = None
    tokenizer: Tokenizer | None = None
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
    architecture: str | None = None

    def __iter__(self) -> Iterator[Any]:
        """Unpacks as `model, params, tokenizer, defaults`."""
        return iter((self.model, self.params, self.tokenizer, self.defaults))

    @property
    def size(self) -> int:
        """Number of parameters."""
        return _size(self.params)


@dataclasses.dataclass(frozen=True)
class HeadsCheckpoint:
    """Heads on a target's hidden states, which draft or score, and their weights.

    Attributes:
      name: the folder's name.
      kind: `"medusa"`, `"hydra"`, `"eagle"`, `"eagle3"`, `"dflash"`; `"adjust"`; `"reward"`, `"value"` or `"judge"`.
      heads: what `jaxdec.drafters` take: `Heads`, or for the next three a `Model` that reads features, as
        `diffusion.adjust` takes; a `ScoreHead` for the last three.
      params: parameters, a nested dict; float32 for this package's own. What public ones share with their target are
        the target's arrays.
      config: sizes.
      target: name of the checkpoint that they draft for, as far as it is known.
      facts: what is known of the training run.
      block_size: rows of the block that DFlash was trained on, else None.
    """

    name: str
    kind: str
    heads: Heads | Model | ScoreHead
    params: Params
    config: Sizes
    target: str
    facts: dict[str, Any]
    block_size: int | None = None

    @property
    def reads(self) -> int:
        """Width of the target's hidden states."""
        return getattr(self.config, "reads", self.config.width)

    @property
    def model(self) -> Heads | Model | ScoreHead:
        """The same as `heads`."""
        return self.heads

    @property
    def size(self) -> int:
        """Number of parameters."""
        return _size(self.params)


def _size(params: Params) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


def load_any(name: str | Path, target: Checkpoint | None = None) -> Checkpoint | HeadsCheckpoint:
    """Loads a checkpoint of either kind.

    Args:
      name: a shipped checkpoint's name, or the path of a folder.
      target: of public draft heads; see `load_heads`.

    Raises:
      ValueError: if there is no such checkpoint, or it is damaged.
    """
    held = checkpoint_folder.read(name)[1]
    heads = "heads" in held or checkpoint_folder.is_public_heads(held)
    return load_heads(name, target) if heads else load(name)


def load(name: str | Path, dtype: jax.typing.DTypeLike | None = None) -> Checkpoint:
    """Loads a checkpoint: `model, params, tokenizer, defaults = load(name)`.

    Args:
      name: a shipped checkpoint's name; the path of a folder, of this package's own or as Hugging Face tools write it
        (`jaxdec.models.huggingface`); or a hub's `owner/name`, where `huggingface_hub` is installed.
      dtype: of parameters and caches; if not given, that of the checkpoint for public ones, float32 for this package's
        own. Logits and noise are float32 in any case.

    Raises:
      ValueError: if there is no such checkpoint, it is damaged, or its architecture is not supported.
    """
    path, held = checkpoint_folder.read(name)
    if checkpoint_folder.is_public(held):
        return _load_public(path, dtype)
    if "heads" in held:
        raise ValueError(
            f"checkpoint {str(name)!r} holds heads on a model ({held['heads']}), not a model of its own"
        )
    config = checkpoint_folder.sizes(name, TransformerConfig, held["model"])
    for token in [*held["eos"], *([held["mask_token"]] if "fills" in held else [])]:
        if not 0 <= token < config.vocab_size:
            raise checkpoint_folder.damaged(
                name, f"token {token} is outside its vocabulary of {config.vocab_size}"
            )
    abstract = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
    model, shapes = from_nnx(abstract, eos=held["eos"], dtype=dtype)
    params = _restore(name, path, shapes, held["dtype"])
    if dtype is not None:
        params = jax.tree.map(lambda x: x.astype(dtype), params)
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
        tokenizer=_tokenizer(path) or (text.BYTES if config.vocab_size >= 256 else None),
    )


def _load_public(path: Path, dtype: jax.typing.DTypeLike | None) -> Checkpoint:
    """Loads a folder of Hugging Face files."""
    loaded = huggingface.load(path, dtype)
    fills = loaded.fills
    bytewise = loaded.config.vocab_size == text.VOCAB_SIZE  # exported by this package
    return Checkpoint(
        path.name,
        loaded.model,
        loaded.params,
        loaded.config,
        {"config": loaded.fields},
        fills=None if fills is None else fills.kind,
        mask_token=None if fills is None else fills.mask_token,
        block_size=None if fills is None else fills.block_size,
        tokenizer=_tokenizer(path) or (text.BYTES if bytewise else None),
        defaults=loaded.defaults,
        architecture=loaded.architecture,
    )


def _tokenizer(path: Path) -> Tokenizer | None:
    """That of a folder. One that cannot be read says why when it is used: weights are loaded without it."""
    try:
        return text.load(path)
    except ValueError as error:
        return text.unreadable(str(error))


def load_heads(
    name: str | Path,
    target: Checkpoint | None = None,
    dtype: jax.typing.DTypeLike | None = None,
) -> HeadsCheckpoint:
    """Loads the checkpoint of draft heads.

        target = jaxdec.load("Llama-3.1-8B-Instruct")
        draft = checkpoints.load_heads("EAGLE3-LLaMA3.1-Instruct-8B", target)

    Args:
      name: a shipped checkpoint's name; the path of a folder, of this package's own or, for EAGLE-3, Medusa and DFlash,
        as they are published in safetensors files; or a hub's `owner/name`.
      target: the model that public heads draft for. EAGLE-3 and DFlash need it, for they leave to it which of its
        layers they read, the embedding and (DFlash) the output matrix: its arrays are shared, not copied.
      dtype: of parameters and caches; for public ones the target's if not given, float32 for all others.

    Raises:
      ValueError: if there is no such checkpoint, it is damaged, it holds a model, or the target does not fit or is
        missing.
    """
    path, held = checkpoint_folder.read(name)
    if checkpoint_folder.is_public_heads(held):
        return _load_public_heads(path, target, dtype)
    if "heads" not in held:
        raise ValueError(f"checkpoint {str(name)!r} holds a model, not draft heads")
    kind = held["heads"]
    config = checkpoint_folder.sizes(name, sizes_of(kind), held["model"])
    heads, shapes = build_heads(kind, config, abstract=True, dtype=dtype)
    params = _restore(name, path, shapes, held["dtype"])
    if dtype is not None:
        params = jax.tree.map(lambda x: x.astype(dtype), params)
    return HeadsCheckpoint(path.name, kind, heads, params, config, held["target"], held["facts"])


def _load_public_heads(
    path: Path, target: Checkpoint | None, dtype: jax.typing.DTypeLike | None
) -> HeadsCheckpoint:
    """Loads a folder of Hugging Face files."""
    lent = None if target is None else (target.config, target.params)
    loaded = huggingface.load_heads(path, lent, dtype)
    named = str(loaded.fields.get("base_model_name_or_path", ""))
    return HeadsCheckpoint(
        path.name,
        loaded.architecture,
        loaded.heads,
        loaded.params,
        loaded.config,
        named if target is None else target.name,
        {"config": loaded.fields},
        getattr(loaded.config, "block", None),
    )


def _restore(name: str | Path, path: Path, shapes: Params, stored: str) -> Params:
    """The weights of a checkpoint as float32 on the default device, like any fresh array."""
    try:
        dtype = jnp.dtype(stored)
    except TypeError:
        raise checkpoint_folder.damaged(
            name, f"the dtype of its config.json is {stored!r}"
        ) from None
    # The device is named, since orbax else looks for the one that wrote the weights.
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype, sharding=device), shapes)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            params = checkpointer.restore((path / "weights").absolute(), like)
    except Exception as error:  # of many kinds, and several lines that speak of orbax
        raise checkpoint_folder.damaged(
            name, "its weights are not those of the sizes in config.json"
        ) from error
    # Orbax's arrays are committed to a device. Programs would be compiled once for them and once for what they return
    # together with arrays that are not; and they could not be mixed with arrays on several devices.
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float32), params)


def save(
    path: str | Path,
    config: Sizes,
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
    """Writes a checkpoint to a new folder, whole or not at all.

    Args:
      path: the folder; must not hold a checkpoint yet.
      config: sizes.
      params: parameters of that size.
      eos: tokens that end a sequence.
      facts: anything that JSON can hold.
      fills: for a model that fills masks, what it was trained for.
      mask_token: what stands at unknown positions, for such a model.
      block_size: the largest block, for a model of blocks.
      heads: for heads, their kind.
      target: for heads, the name of the checkpoint whose states they read.
      dtype: of the stored weights; bfloat16 halves the size.

    Raises:
      ValueError: if the folder holds anything already.
    """
    path = Path(path).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        holds = "a checkpoint" if (path / "config.json").exists() else "something"
        raise ValueError(f"{path} holds {holds} already")
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
    stored = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
    with files.whole_folder(path) as draft:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(draft / "weights", stored)
        # A marker that orbax writes and does not read back; it names this machine's folders.
        (draft / "weights" / "commit_success.txt").unlink(missing_ok=True)
        (draft / "config.json").write_text(json.dumps(held, indent=2) + "\n")
        write_sums(draft)


def write_sums(path: str | Path) -> None:
    """Writes the hashes of a checkpoint's files, `SHA256SUMS`: after its configuration was edited by hand.

    Args:
      path: the folder.
    """
    files.write_sums(Path(path), checkpoint_folder.HASHED)
