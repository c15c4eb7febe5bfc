"""The cards of trained models, Markdown."""

from typing import Any

from jaxdec.models import TransformerConfig
from jaxdec.training.noising import Noising
from jaxdec.training.trainer import RunConfig, TrainConfig

MAX_LENGTH = 8192
"""Tokens of a text at most."""


def data_paragraph(facts: dict[str, Any]) -> str:
    """What a card says of the corpus."""
    return f"""Python sources, {facts["train_bytes"]:,} bytes to learn from and {facts["held_out_bytes"]:,} held out, \
split by file (a file is held out iff the hash of its name says so). The corpus has the fingerprint \
`{facts["corpus"]}`; it was collected under Python {facts["python"]}, and other versions of Python give another one."""


def training_sentence(config: RunConfig, facts: dict[str, Any]) -> str:
    """What a card says of the run."""
    took = "" if facts["seconds"] is None else f", {facts['seconds'] / 60:.0f} minutes of training"
    earlier = ", then ".join(map(str, facts.get("extended_from", ())))
    given = f" (the run was given {earlier} at first)" if earlier else ""
    return (
        f"{facts['steps']} steps{given} of {facts['batch']} windows of {facts['length']} tokens, Muon and AdamW, seed "
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
{sizes.heads} query heads and {sizes.kv_heads} key-value heads,{_experts(sizes)} a vocabulary of {sizes.vocab_size} \
(bytes and special tokens). Weights are stored in bfloat16.

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


def _experts(sizes: TransformerConfig) -> str:
    """What a card says of a mixture."""
    mixture = sizes.mixture
    if mixture is None:
        return ""
    return f" {mixture.experts} experts of width {mixture.hidden} a layer, {mixture.per_token} a token,"


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
