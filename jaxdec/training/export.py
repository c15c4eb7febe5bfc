"""From a finished run to a checkpoint that can be shipped: evaluation, facts and the model card."""

import dataclasses
import functools
import gzip
import hashlib
import json
import lzma
import platform
import shutil
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import checkpoints, text
from jaxdec.any_subset import two_stream
from jaxdec.diffusion import canvas_model, next_token
from jaxdec.model import Model, Params
from jaxdec.training import objectives, subsets
from jaxdec.training.corpus import Corpus
from jaxdec.training.noising import Noising
from jaxdec.training.subsets import Masking
from jaxdec.training.trainer import RunConfig, TrainConfig, build

MAX_LENGTH = 8192


def identity(config: RunConfig, data: Corpus) -> str:
    """A hash of a run: its configuration and its corpus."""
    held = json.dumps([dataclasses.asdict(config), data.fingerprint()], sort_keys=True)
    return hashlib.sha256(held.encode()).hexdigest()[:16]


def check_free(path: Path, run: str) -> None:
    """Checks that a checkpoint can be written to a folder, or that it is this run's already.

    Raises:
      ValueError: if the folder holds anything else.
    """
    config = path / "config.json"
    if config.is_file():
        try:
            held = json.loads(config.read_text())["facts"].get("run")
        except (ValueError, KeyError, AttributeError):
            held = None
        if held == run:
            return
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
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
    *,
    about: str = "",
    command: str = "",
    seconds: float | None = None,
) -> dict[str, Any]:
    """Evaluates the weights as they are shipped and writes checkpoint and card, all at once or not at all.

    The exported model attends to as many tokens as a training window holds: every distance between two tokens was
    then trained, and texts may be longer than the windows.

    Args:
      path: a folder that does not exist or is empty.
      name: of the model.
      config: the run.
      data: its corpus.
      params: trained parameters.
      about: one line on what the model is for.
      command: what repeats the run.
      seconds: of training, if known.

    Returns:
      The facts that the checkpoint holds.

    Raises:
      ValueError: if the folder is not free, or nothing is held out.
    """
    path = free(path)
    sizes = dataclasses.replace(config.model, window=config.length, max_length=MAX_LENGTH)
    model, _ = build(sizes)
    fills = _fills(config)
    if fills is not None:
        model = (two_stream if fills == "subsets" else canvas_model)(model, text.MASK)
    blocks = config.masking.blocks if isinstance(config.masking, Noising) else ()
    facts: dict[str, Any] = {
        **shared_facts(config, data, params, about),
        **({} if fills in (None, "subsets") else {"fills": fills}),
        **evaluate(model, rounded(params), data, config.length, blocks),
        **origin(config, data, command, seconds),
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


def free(path: Path) -> Path:
    """The absolute path of a folder that does not exist or is empty.

    Raises:
      ValueError: if it is neither.
    """
    path = Path(path).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"cannot export to {path}: it is not an empty folder")
    return path


def publish(path: Path, readme: str, sizes: Any, params: Params, **held: Any) -> None:
    """Writes checkpoint and card to a folder that is free, all at once or not at all.

    Args:
      path: absolute.
      readme: the card, Markdown.
      sizes: of the model or heads.
      params: trained parameters.
      **held: as for `checkpoints.save`.
    """
    draft = path.with_name(path.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)  # of an export that was killed
    checkpoints.save(draft, sizes, params, eos=[text.EOS], **held)
    (draft / "README.md").write_text(readme)
    if path.exists():
        path.rmdir()
    draft.rename(path)


def shared_facts(config: RunConfig, data: Corpus, params: Params, about: str) -> dict[str, Any]:
    """What is known of every run, before its evaluation."""
    return {
        "about": about,
        "steps": config.steps,
        "batch": config.batch,
        "length": config.length,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "corpus": data.fingerprint(),
        "train_bytes": sum(len(source.content) for source in data.train),
    }


def origin(config: RunConfig, data: Corpus, command: str, seconds: float | None) -> dict[str, Any]:
    """Where a run's weights come from."""
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "seconds": seconds,
        "command": command,
        "run": identity(config, data),
    }


def data_paragraph(facts: dict[str, Any]) -> str:
    """What a card says of the corpus."""
    return f"""Python sources, {facts["train_bytes"]:,} bytes to learn from and {facts["held_out_bytes"]:,} held out, \
split by file (a file is held out iff the hash of its name says so). The corpus has the fingerprint \
`{facts["corpus"]}`; it was collected under Python {facts["python"]}, and other versions of Python give another one."""


def training_sentence(config: RunConfig, facts: dict[str, Any]) -> str:
    """What a card says of the run."""
    took = "" if facts["seconds"] is None else f", {facts['seconds'] / 60:.0f} minutes of training"
    return (
        f"{facts['steps']} steps of {facts['batch']} windows of {facts['length']} tokens, Muon and AdamW, seed "
        f"{config.seed}, jax {facts['jax']} on {facts['device']}{took}."
    )


def card(name: str, config: TrainConfig, facts: dict[str, Any]) -> str:
    """The model card, Markdown."""
    sizes = config.model
    distilled = (
        f" The loss weighs the teacher's law by {config.distill:g} and the data by "
        f"{1 - config.distill:g}."
        if config.distill
        else ""
    )
    start = f" It starts from the weights of {config.start}." if config.start else ""
    return f"""# {name}

{facts["about"]}: {facts["parameters"]:,} parameters, {sizes.layers} layers of width {sizes.width}, \
{sizes.heads} query heads and {sizes.kv_heads} key-value heads, a vocabulary of {sizes.vocab_size} (bytes and \
special tokens). Weights are stored in bfloat16.

## Data

{data_paragraph(facts)}

## Training

{training_sentence(config, facts)}{start}{distilled}{_masking(config)}

## Held-out bits per byte

{_scores(facts)}

## Limits

A token attends to the {facts["length"]} tokens up to and including itself, as many as a training window held: every
distance between two tokens was trained, so texts of up to {MAX_LENGTH:,} tokens can be decoded. The model has seen
nothing but Python sources.{_limits(config)}

## Reproduce

```
{facts["command"]}
```
"""


def _fills(config: TrainConfig) -> Literal["subsets", "canvas", "blocks"] | None:
    """What the model of a run fills."""
    if config.masking is None:
        return None
    if isinstance(config.masking, Masking):
        return "subsets"
    return "blocks" if config.masking.blocks else "canvas"


def _masking(config: TrainConfig) -> str:
    """What a run that fills masks was trained on."""
    masking = config.masking
    if masking is None:
        return ""
    if isinstance(masking, Noising):
        each = " Each window is used twice, with a masked set and with its complement"
        if masking.blocks:
            shares = ", ".join(
                f"{share:.1%} of {block}"
                for block, share in zip(masking.blocks, masking.shares, strict=True)
            )
            return f"""

The objective is block diffusion, cross-entropy of masked tokens given their block and the clean blocks before it, one \
masking rate a block, uniform in [0, 1]. Blocks by share of the windows: {shares} tokens.{each}."""
        return f"""

The objective is masked diffusion, cross-entropy of masked tokens given the visible ones, one masking rate a window, \
uniform in [0, 1]; {masking.prompts:.0%} of the windows keep a prefix clean.{each}."""
    one_by_one, in_gaps, prefixes = masking.shares
    low, high = masking.rates
    return f"""

The objective is the joint law of masked tokens given visible ones, in lattice order: {one_by_one:.0%} of the rows \
have tokens masked one by one (rates from {masking.start:g} to the interval {low:g} to {high:g} over {masking.warmup} \
steps), {in_gaps:.0%} have 1 to 3 gaps, {prefixes:.0%} a visible prefix alone; up to {masking.scored} masked tokens of \
a row are scored."""


def _scores(facts: dict[str, Any]) -> str:
    """The table of bits per byte."""
    packed = f"{facts['gzip_bits_per_byte']:.3f} | {facts['xz_bits_per_byte']:.3f} |"
    if "fills" in facts and facts["fills"] != "subsets":
        return _bounds(facts)
    if "bits_per_byte_half_masked" not in facts:
        return f"""| this model, as stored | `gzip -9` | `xz -9e` |
|---|---|---|
| {facts["held_out_bits_per_byte"]:.3f} | {packed}

The model is scored in windows of {facts["length"]} tokens that overlap by half, each byte with at least half a \
window before it (but for the first ones); the compressors pack all held-out files as one."""
    return f"""| second half, given the first | random half | random 95% | `gzip -9` | `xz -9e` |
|---|---|---|---|---|
| {facts["held_out_bits_per_byte"]:.3f} | {facts["bits_per_byte_half_masked"]:.3f} \
| {facts["bits_per_byte_95_masked"]:.3f} | {packed}

The model, as stored, is scored on windows of {facts["length"]} tokens, in bits per masked byte given the others; \
the compressors pack all held-out files as one."""


def _bounds(facts: dict[str, Any]) -> str:
    """The table of a canvas model."""
    columns = {
        "from left to right": "bits_per_byte_left_to_right",
        "diffusion bound": "held_out_bits_per_byte",
        "`gzip -9`": "gzip_bits_per_byte",
        "`xz -9e`": "xz_bits_per_byte",
    }
    columns = {name: key for name, key in columns.items() if key in facts}
    row = lambda cells: f"| {' | '.join(cells)} |"
    exact = ""
    if "bits_per_byte_left_to_right" in facts:
        exact = "; from left to right, blocks of one token give the likelihood itself"
    return f"""{row(columns)}
|{"---|" * len(columns)}
{row(f"{facts[key]:.3f}" for key in columns.values())}

The model, as stored, is scored on windows of {facts["length"]} tokens. The bound is the expected cross-entropy over \
masking rates, weighted by one over the rate{exact}. The compressors pack all held-out files as one."""


def _limits(config: TrainConfig) -> str:
    if config.masking is None:
        return ""
    if isinstance(config.masking, Noising):
        return " It restores masked tokens (`jaxdec.denoise`)."
    return " It fills gaps (`jaxdec.infill`) and predicts no next token."
