"""From a finished run to a checkpoint that can be shipped: evaluation and facts."""

import dataclasses
import functools
import gzip
import hashlib
import json
import lzma
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import checkpoints, files, text
from jaxdec.any_subset import two_stream
from jaxdec.diffusion import canvas_model, next_token
from jaxdec.model import Model, Params
from jaxdec.training import objectives, subsets
from jaxdec.training.card import MAX_LENGTH, card
from jaxdec.training.corpus import Corpus
from jaxdec.training.noising import Noising
from jaxdec.training.subsets import Masking
from jaxdec.training.trainer import RunConfig, Source, TrainConfig, build, fingerprint


def identity(
    config: RunConfig,
    data: Source,
    teacher: Params | None = None,
    extended_from: Sequence[int] = (),
) -> str:
    """A hash of a run.

    Args:
      config: the run.
      data: what it learns from.
      teacher: the parameters that it learns from, if it does.
      extended_from: the steps that it was given before those of `config`.
    """
    held: list[Any] = [dataclasses.asdict(config), data.fingerprint()]
    held += [] if teacher is None else [fingerprint(teacher)]
    held += [list(extended_from)] if extended_from else []
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()[:16]


def identities(
    config: RunConfig, data: Source, teacher: Params | None, extended_from: Sequence[int]
) -> list[str]:
    """The hashes of a run as it was when it had fewer steps, in turn, and as it is; see `identity`."""
    return [
        identity(dataclasses.replace(config, steps=steps), data, teacher, extended_from[:i])
        for i, steps in enumerate([*extended_from, config.steps])
    ]


def holds(path: Path) -> str | None:
    """The hash of the run whose checkpoint a folder holds; None if it is free.

    Raises:
      ValueError: if it holds anything else.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    try:
        return json.loads((path / "config.json").read_bytes())["facts"]["run"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is neither an empty folder nor the checkpoint of a run") from None


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the weights of a run come from, beside its configuration.

    Attributes:
      about: one line on what they are for.
      runs: `identities` of the run; a checkpoint of the run when it had fewer steps is replaced.
      extended_from: the steps that it was given before those of its configuration.
      command: what repeats the run.
      seconds: of training, if known.
    """

    about: str = ""
    runs: Sequence[str] = ()
    extended_from: Sequence[int] = ()
    command: str = ""
    seconds: float | None = None

    def facts(self) -> dict[str, Any]:
        """What a checkpoint holds of it, and of where it was exported."""
        return {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "device": jax.devices()[0].device_kind,
            "seconds": self.seconds,
            "command": self.command,
            **({"extended_from": list(self.extended_from)} if self.extended_from else {}),
            **({"run": self.runs[-1]} if self.runs else {}),
        }


UNKNOWN = Origin()
"""Of weights that nothing is said of."""


def check_free(path: Path, runs: Sequence[str]) -> None:
    """Checks that a checkpoint can be written to a folder, or that it is this run's already.

    Args:
      path: the folder.
      runs: `identities` of the run.

    Raises:
      ValueError: if the folder holds anything else.
    """
    if holds(path) not in (None, *runs):
        raise ValueError(f"cannot export to {path}: it exists and is not a checkpoint of this run")


def rounded(params: Params) -> Params:
    """Parameters as they are shipped, rounded to bfloat16, in float32."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16).astype(jnp.float32), params)


def evaluate(
    model: Model, params: Params, data: Corpus, length: int, blocks: tuple[int, ...] = ()
) -> dict[str, float]:
    """Bits per byte of the held-out files under a model, `gzip -9` and `xz -9e`.

    An any-subset model is scored on windows of which the first half, a random half, or a random twentieth is visible; a
    canvas model by the diffusion bound, and from left to right if it was trained on blocks of one token.

    Args:
      model: scores windows.
      params: as they are shipped.
      data: the corpus.
      length: tokens in a window.
      blocks: sizes that a model of blocks was trained on.

    Raises:
      ValueError: if nothing is held out.
    """
    raw = b"".join(source.content for source in data.held_out)
    if not raw:
        raise ValueError("no file of the corpus is held out, so there is nothing to evaluate on")
    bits = lambda packed: 8 * len(packed) / len(raw)
    stream = data.held_out_stream()
    if model.any_subset:
        length = min(length, len(stream))
        dropped = lambda rate: lambda generator: subsets.dropped(length, rate, generator)
        score = functools.partial(
            objectives.bits_per_masked_byte, model, params, stream, length=length
        )
        own = {
            "held_out_bits_per_byte": score(lambda _: np.arange(length) < max(length // 2, 1)),
            "bits_per_byte_half_masked": score(dropped(0.5)),
            "bits_per_byte_95_masked": score(dropped(0.95)),
        }
    elif model.canvas:
        length = min(length, len(stream))
        own = {
            "held_out_bits_per_byte": objectives.diffusion_bound(
                model, params, stream, length=length, block=max(blocks, default=None)
            )
        }
        if 1 in blocks:
            own["bits_per_byte_left_to_right"] = objectives.bits_per_byte(
                next_token(model), params, stream, length=length
            )
    else:
        own = {
            "held_out_bits_per_byte": objectives.bits_per_byte(model, params, stream, length=length)
        }
    return {
        "held_out_bytes": len(raw),
        **own,
        "gzip_bits_per_byte": bits(gzip.compress(raw, 9)),
        "xz_bits_per_byte": bits(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)),
    }


def export(
    path: Path,
    name: str,
    config: TrainConfig,
    data: Corpus,
    params: Params,
    known: Origin = UNKNOWN,
) -> dict[str, Any]:
    """Evaluates the weights as they are shipped and writes checkpoint and card, all at once or not at all.

    The exported model attends to as many tokens as a training window holds: every distance between two tokens was
    then trained, and texts may be longer than the windows.

    Args:
      path: a folder that does not exist, is empty, or holds a checkpoint of this run.
      name: of the model.
      config: the run.
      data: its corpus.
      params: trained parameters.
      known: where it comes from.

    Returns:
      The facts that the checkpoint holds.

    Raises:
      ValueError: if the folder is not free, or nothing is held out.
    """
    check_free(path, known.runs)
    sizes = dataclasses.replace(config.model, window=config.length, max_length=MAX_LENGTH)
    model, _ = build(sizes)
    fills = _fills(config)
    if fills is not None:
        model = (two_stream if fills == "subsets" else canvas_model)(model, text.MASK)
    blocks = config.masking.blocks if isinstance(config.masking, Noising) else ()
    facts: dict[str, Any] = {
        **shared_facts(config, data, params, known.about),
        **trained_on(data),
        **({} if fills in (None, "subsets") else {"fills": fills}),
        **evaluate(model, rounded(params), data, config.length, blocks),
        **known.facts(),
    }
    publish(
        path,
        card(name, config, facts),
        sizes,
        params,
        facts=facts,
        fills=fills,
        mask_token=None if fills is None else text.MASK,
        block_size=max(blocks, default=None),
    )
    return facts


def publish(path: Path, readme: str, sizes: Any, params: Params, **held: Any) -> None:
    """Writes checkpoint and card to a folder, all at once or not at all; what it held is replaced.

    Args:
      path: the folder.
      readme: the card, Markdown.
      sizes: of the model or heads.
      params: trained parameters.
      **held: as for `checkpoints.save`.
    """
    with files.whole_folder(path, replace=True) as draft:
        checkpoints.save(draft, sizes, params, eos=[text.EOS], **held)
        (draft / "README.md").write_text(readme, encoding="utf-8")


def publish_heads(
    path: Path,
    config: Any,
    data: Source,
    params: Params,
    known: Origin,
    *,
    kind: str,
    measured: Callable[[Params], Mapping[str, Any]],
    card: Callable[[dict[str, Any]], str],
    sizes: Any = None,
) -> dict[str, Any]:
    """Evaluates what was trained on a frozen target as it is shipped, and writes checkpoint and card; see `publish`.

    Args:
      path: a folder that does not exist, is empty, or holds a checkpoint of this run.
      config: the run, with its `target`.
      data: what it learnt from.
      params: trained parameters.
      known: where they come from.
      kind: of the heads, of `models.heads.KINDS`.
      measured: the facts of parameters as they are shipped.
      card: the card of all facts, Markdown.
      sizes: of the heads; those of the run if not given.

    Returns:
      The facts that the checkpoint holds.

    Raises:
      ValueError: if the folder is not free, and what `measured` raises.
    """
    check_free(path, known.runs)
    facts = {
        **shared_facts(config, data, params, known.about),
        **measured(rounded(params)),
        **known.facts(),
    }
    sizes = config.model if sizes is None else sizes
    publish(path, card(facts), sizes, params, facts=facts, heads=kind, target=config.target)
    return facts


def shared_facts(config: RunConfig, data: Source, params: Params, about: str) -> dict[str, Any]:
    """What is known of every run, before its evaluation."""
    return {
        "about": about,
        "steps": config.steps,
        "batch": config.batch,
        "length": config.length,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "corpus": data.fingerprint(),
    }


def trained_on(data: Corpus) -> dict[str, int]:
    """What is known of a corpus beside its fingerprint."""
    return {"train_bytes": sum(len(source.content) for source in data.train)}


def of_corpus(data: Corpus) -> dict[str, int]:
    """The same, and how much of it is held out."""
    held_out = sum(len(source.content) for source in data.held_out)
    return {**trained_on(data), "held_out_bytes": held_out}


def _fills(config: TrainConfig) -> Literal["subsets", "canvas", "blocks"] | None:
    """What the model of a run fills."""
    if config.masking is None:
        return None
    if isinstance(config.masking, Masking):
        return "subsets"
    return "blocks" if config.masking.blocks else "canvas"
