"""Methods that decode a canvas."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxdec.catalogue.method import Method, Parts, Sample
from jaxdec.decoding import Decoder, Exactness
from jaxdec.diffusion import (
    Unmask,
    backtracking,
    credit,
    daedal,
    denoise,
    editing,
    orthogonal_repulsion,
    prophet,
    refining,
    refresh,
    schedules,
)
from jaxdec.diffusion import unmask as policies
from jaxdec.model import Model

REFRESH_RULES = {
    "none": refresh.none,
    "block": refresh.block,
    "prefix": refresh.prefix,
    "dual": refresh.dual,
    "sub-block": refresh.sub_block,
    "frozen": refresh.frozen,
}


NEWLINE = (10,)
"""The delimiters of blocks for a vocabulary that is not known: the byte of a newline."""
BLOCK = 32
"""Positions of a block where nothing says how many."""

Layout = Callable[[Parts, Unmask], tuple[schedules.Schedule, Unmask]]
"""The groups that a policy fills one after another, and the policy within them."""


def of_blocks(parts: Parts, policy: Unmask) -> tuple[schedules.Schedule, Unmask]:
    """Blocks of a size that is given, or one group."""
    if parts.block is None:
        return schedules.whole(), policy
    size, within = parts.block, None
    if parts.refresh == "sub-block":
        size, within = parts.block // 4, parts.block
    return schedules.blocks(size, within=within, from_start=parts.causal), policy


def _one_group(parts: Parts, policy: Unmask) -> tuple[schedules.Schedule, Unmask]:
    """One group, whatever the size of a block."""
    return schedules.whole(), policy


def _seen_whole(parts: Parts, policy: Unmask) -> tuple[schedules.Schedule, Unmask]:
    """One group under full attention, in which blocks are the policy's: other parts look at all of it."""
    if parts.causal or parts.block is None:
        return of_blocks(parts, policy)
    return schedules.whole(), policies.in_blocks(policy, parts.block)


def _growing(parts: Parts, policy: Unmask) -> tuple[schedules.Schedule, Unmask]:
    """One group whose positions move, in blocks of the policy."""
    return schedules.whole(), policies.in_blocks(policy, parts.block or BLOCK)


def _semantic(parts: Parts, policy: Unmask) -> tuple[schedules.Schedule, Unmask]:
    """Semantic blocks, within those of a model of blocks."""
    delimiters = parts.delimiters or NEWLINE
    if not parts.causal:
        size = min(parts.block or BLOCK, 128)
        return schedules.semantic_blocks(delimiters, size), policy
    assert parts.block is not None
    size = parts.block
    return schedules.semantic_blocks(delimiters, size, within=size, from_start=True), policy


def _sharing_lines(parts: Parts, policy: Unmask) -> tuple[schedules.Schedule, Unmask]:
    """Blocks, and what the samples of a prompt share by lines."""
    return of_blocks(parts, policies.shared_lines(policy, parts.delimiters or NEWLINE))


def denoising(
    name: str,
    title: str,
    paper: str,
    policy: Callable[[], Unmask],
    exactness: Exactness = Exactness.HEURISTIC,
    branches: int = 1,
    variants: Mapping[str, Callable[[], Unmask]] | None = None,
    benchmark: str = "diffusion",
    layout: Layout = of_blocks,
    alone: str = "",
    draft: str = "",
    heads: str = "",
    sample: Sample | None = None,
    **further: Callable[[Parts], Any],
) -> Method:
    """A row: a policy, with the parts that go with it.

    Args:
      name: see `Method`; so the next two.
      title: what it does.
      paper: where it comes from.
      policy: builds the policy.
      exactness: see `Method`.
      branches: of the method's own, see `denoise`.
      variants: further policies that the battery tests.
      benchmark: see `Method`.
      layout: the groups, if they are part of the method.
      alone: why it takes full attention and no other refresh rule, if it does.
      draft: see `Method`.
      heads: see `Method`.
      sample: see `Method`.
      **further: build more parts of `denoise`: `remask`, `fuse`, `stop`, `grow`, `resample`, `joint`, or a `refresh` of
        its own.
    """

    def make(parts: Parts) -> Decoder:
        if parts.causal and parts.block is None:
            raise ValueError("a model of blocks needs the size of a block, got none")
        if parts.refresh == "sub-block" and (parts.block is None or parts.block % 4):
            raise ValueError(f"sub-blocks are quarters of a block, got a block of {parts.block}")
        if alone and (parts.causal or parts.refresh != "none"):
            raise ValueError(
                f"method {name!r} {alone}: it takes a model of the whole canvas and the refresh rule 'none'"
            )
        schedule, own = layout(parts, policy())
        built: dict[str, Any] = {"refresh": REFRESH_RULES[parts.refresh]()}
        built |= {part: build(parts) for part, build in further.items()}
        return denoise(
            parts.target,
            unmask=own,
            schedule=schedule,
            attention="causal" if parts.causal else "full",
            branches=branches if branches == 1 or parts.length is None else parts.length,
            **built,
        )

    def variant(policy: Callable[[], Unmask]) -> Sample:
        return lambda target, draft: denoise(target, unmask=policy())

    def block_causal(target: Model, draft: Model) -> Decoder:
        return make(Parts(target, length=3, block=8, causal=True, refresh="block"))

    # Branches guess by what the blocks before them hold; the others are tested by the layout of their policy alone.
    plain: Sample = lambda target, draft: make(Parts(target, draft))

    return Method(
        name,
        title,
        paper,
        exactness,
        make,
        "tests/conformance/test_methods.py",
        benchmark,
        draft=draft,
        heads=heads,
        denoises=True,
        sample=sample or (block_causal if branches > 1 else plain),
        variants={name: variant(policy) for name, policy in (variants or {}).items()},
    )


ROWS = [
    denoising(
        "left-to-right",
        "canvas decoding, one token a forward from left to right",
        "",
        policies.left_to_right,
        Exactness.TOKEN_IDENTICAL,
    ),
    denoising(
        "first-hitting",
        "canvas decoding, one token a forward in a random order",
        "2409.02908",
        policies.first_hitting,
        Exactness.APPROXIMATE,
    ),
    denoising(
        "ancestral",
        "canvas decoding, each mask by its own coin",
        "2406.07524",
        policies.ancestral,
        Exactness.APPROXIMATE,
    ),
    denoising(
        "window-diffusion",
        "one of the first 16 masks a forward; masks up to 64 away are kept for 32 forwards, those behind do not exist",
        "2601.20332",
        lambda: policies.leftmost(policies.quota("max_prob"), 16),
        benchmark="",
        layout=_one_group,
        alone="has a cache of its own",
        refresh=lambda parts: refresh.window(16, 64, 32),
    ),
    denoising(
        "difftester",
        "one token a forward, and every other time what lines of a prompt's samples share",
        "2509.24975",
        lambda: policies.quota("max_prob"),
        benchmark="",
        layout=_sharing_lines,
    ),
    denoising(
        "llada",
        "canvas decoding, a quota of the most probable tokens",
        "2502.09992",
        lambda: policies.quota("max_prob"),
        variants={"by margins": lambda: policies.quota("margin", steps=4, spread="cosine")},
    ),
    denoising(
        "dream",
        "canvas decoding, a quota of the tokens of least entropy",
        "2508.15487",
        lambda: policies.quota("entropy", spread="linear_time", position_temperature=0.0),
        variants={"jittered": lambda: policies.quota("entropy", position_temperature=0.3)},
    ),
    denoising(
        "threshold",
        "canvas decoding, all tokens above a probability",
        "2505.22618",
        policies.threshold,
    ),
    denoising(
        "fast-dllm-v2",
        "canvas decoding, the first token of each block by itself, then all above a probability",
        "2509.26328",
        lambda: policies.first_alone(policies.threshold()),
    ),
    denoising(
        "factor",
        "canvas decoding, as many tokens as their worst probability allows",
        "2505.22618",
        policies.factor,
    ),
    denoising(
        "dynamic-threshold",
        "canvas decoding, a threshold or a quota by the probability of the drawn token; at temperature 0, a threshold",
        "2510.06303",
        policies.dynamic_threshold,
    ),
    denoising(
        "entropy-bound",
        "canvas decoding, the surest tokens within a budget of entropy",
        "2510.06303",
        policies.entropy_bound,
    ),
    denoising(
        "credit",
        "threshold decoding with credit for tokens that stay probable",
        "2510.06133",
        policies.threshold,
        fuse=lambda parts: credit(),
    ),
    denoising(
        "prophet",
        "one token a forward until the rest of the canvas is sure enough to be committed at once",
        "2508.19982",
        lambda: policies.quota("max_prob"),
        layout=_seen_whole,
        stop=lambda parts: prophet(),
    ),
    denoising(
        "saber",
        "canvas decoding, adaptive acceleration with backtracking",
        "2510.18165",
        policies.saber,
        remask=lambda parts: backtracking(),
    ),
    denoising(
        "adablock",
        "threshold decoding in blocks that end at likely delimiters",
        "2509.26432",
        policies.threshold,
        layout=_semantic,
        benchmark="tasks_perfect",
    ),
    denoising(
        "daedal",
        "threshold decoding of a canvas that grows until the model sees its end",
        "2508.00819",
        policies.threshold,
        layout=_growing,
        alone="moves tokens",
        grow=lambda parts: daedal(block=parts.block or BLOCK),
        benchmark="tasks_perfect",
    ),
    denoising(
        "odd",
        "a quota of the most probable tokens; samples of a prompt repel one another",
        "2603.04893",
        lambda: policies.quota("max_prob"),
        fuse=lambda parts: orthogonal_repulsion(),
        benchmark="canvas_laws",
    ),
    denoising(
        "editing",
        "threshold decoding that writes tokens again where the model now prefers others",
        "LLaDA2.1",
        lambda: policies.threshold(0.7),
        remask=lambda parts: editing(),
        benchmark="canvas_laws",
    ),
    denoising(
        "rediff",
        "ReDiff: even shares of tokens a forward, in which those that are committed are predicted again (no model that "
        "was trained to revise is shipped)",
        "ReDiff",
        lambda: policies.quota("max_prob"),
        remask=lambda parts: refining(),
        benchmark="",
    ),
    denoising(
        "eoser",
        "canvas decoding in doubling steps, end tokens discounted at first",
        "2509.23924",
        lambda: policies.eos_early_rejection(
            policies.quota("max_prob", spread="doubling"), least=0.01
        ),
        variants={
            "one a step": lambda: policies.eos_early_rejection(policies.quota("max_prob")),
        },
        benchmark="tasks_perfect",
    ),
    denoising(
        "freedave",
        "one token a forward, the next steps guessed and verified along",
        "2510.00294",
        lambda: policies.quota("max_prob"),
        branches=4,
    ),
]
