"""Methods that decode a canvas."""

from collections.abc import Callable, Mapping

from jaxdec.catalogue.method import Method, Parts, Sample
from jaxdec.decoding import Decoder, Exactness
from jaxdec.diffusion import (
    Resample,
    Unmask,
    backtracking,
    credit,
    daedal,
    denoise,
    editing,
    energy,
    orthogonal_repulsion,
    prophet,
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


def _semantic(parts: Parts) -> schedules.Schedule:
    """Semantic blocks, within those of a model of blocks."""
    delimiters = parts.delimiters or NEWLINE
    if not parts.causal:
        return schedules.semantic_blocks(delimiters, min(parts.block or 32, 128))
    assert parts.block is not None
    size = parts.block
    return schedules.semantic_blocks(delimiters, size, within=size, from_start=True)


def denoising(
    name: str,
    title: str,
    paper: str,
    policy: Callable[[], Unmask],
    exactness: Exactness = Exactness.HEURISTIC,
    branches: int = 1,
    variants: Mapping[str, Callable[[], Unmask]] | None = None,
    benchmark: str = "diffusion",
    whole: bool = False,
    scheduled: Callable[[Parts], schedules.Schedule] | None = None,
    resampled: Callable[[Model], Resample] | None = None,
    draft: str = "",
    own_refresh: Callable[[], refresh.Refresh] | None = None,
    around: Callable[[Unmask, Parts], Unmask] = lambda policy, parts: policy,
    **options,
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
      whole: whether it looks at the whole canvas under full attention: blocks are then those of its policy.
      scheduled: builds the schedule, if that is part of the method.
      resampled: builds the rule that picks a proposal, from the method's second model.
      draft: see `Method`.
      around: what goes around the policy, for some parts.
      own_refresh: builds the refresh rule in place of `"none"`, for the whole canvas, if that is the method.
      **options: build further parts of `denoise`: `remask`, `fuse`, `stop`; or `grow`, from the size of the blocks that
        its policy then decodes by.
    """

    def make(parts: Parts) -> Decoder:
        sub_blocks = parts.refresh == "sub-block"
        if parts.causal and parts.block is None:
            raise ValueError("a model of blocks needs the size of a block, got none")
        if sub_blocks and (parts.block is None or parts.block % 4):
            raise ValueError(f"sub-blocks are quarters of a block, got a block of {parts.block}")
        own, size, moves = around(policy(), parts), parts.block or 32, "grow" in options
        if moves and (parts.causal or parts.refresh != "none"):
            raise ValueError(
                f"method {name!r} moves tokens: it takes a model of the whole canvas and the refresh rule 'none'"
            )
        rule = REFRESH_RULES[parts.refresh]()
        if own_refresh is not None:
            if parts.causal or parts.refresh != "none":
                raise ValueError(
                    f"method {name!r} has a cache of its own, for full attention: no causal blocks"
                )
            rule = own_refresh()
        if scheduled is not None:
            schedule = scheduled(parts)
        elif parts.block is None or moves or own_refresh or (whole and not parts.causal):
            schedule = schedules.whole()
            if moves or (own_refresh is None and parts.block is not None):
                own = policies.in_blocks(own, size)
        else:
            few, within = (parts.block // 4, parts.block) if sub_blocks else (parts.block, None)
            schedule = schedules.blocks(few, within=within, from_start=parts.causal)
        further = {key: value(block=size) if moves else value() for key, value in options.items()}
        if resampled is not None:
            further["resample"] = resampled(_second(name, parts))
        return denoise(
            parts.target,
            unmask=own,
            schedule=schedule,
            refresh=rule,
            attention="causal" if parts.causal else "full",
            branches=branches if branches == 1 or parts.length is None else parts.length,
            **further,
        )

    def variant(policy: Callable[[], Unmask]) -> Sample:
        return lambda target, draft: denoise(target, unmask=policy())

    def block_causal(target: Model, draft: Model) -> Decoder:
        return make(Parts(target, length=3, block=8, causal=True, refresh="block"))

    return Method(
        name,
        title,
        paper,
        exactness,
        make,
        "tests/conformance/test_methods.py",
        benchmark,
        draft=draft,
        denoises=True,
        # Branches guess by what the blocks before them hold; the others are tested by the layout of their policy alone.
        sample=block_causal if branches > 1 else lambda target, draft: make(Parts(target, draft)),
        variants={name: variant(policy) for name, policy in (variants or {}).items()},
    )


def _second(name: str, parts: Parts) -> Model:
    """The model beside the canvas model; raises `ValueError` if there is none."""
    if not isinstance(parts.draft, Model):
        raise ValueError(f"method {name!r} needs a causal model beside the canvas model")
    return parts.draft


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
        own_refresh=lambda: refresh.window(16, 64, 32),
    ),
    denoising(
        "difftester",
        "one token a forward, and every other time what lines of a prompt's samples share",
        "2509.24975",
        lambda: policies.quota("max_prob"),
        benchmark="",
        around=lambda policy, parts: policies.shared_lines(policy, parts.delimiters or NEWLINE),
    ),
    denoising(
        "edlm",
        "ancestral canvas decoding, each step one of two fills drawn by a causal model's importance weights (a step "
        "over the whole canvas, table of 27: total variation 0.41 from the joint, 0.59 without)",
        "2410.21357",
        policies.ancestral,
        benchmark="canvas_laws",
        resampled=lambda model: energy(model, name="draft"),
        draft="code-target",
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
        fuse=credit,
    ),
    denoising(
        "prophet",
        "one token a forward until the rest of the canvas is sure enough to be committed at once",
        "2508.19982",
        lambda: policies.quota("max_prob"),
        whole=True,
        stop=prophet,
    ),
    denoising(
        "saber",
        "canvas decoding, adaptive acceleration with backtracking",
        "2510.18165",
        policies.saber,
        remask=backtracking,
    ),
    denoising(
        "adablock",
        "threshold decoding in blocks that end at likely delimiters",
        "2509.26432",
        policies.threshold,
        scheduled=_semantic,
        benchmark="tasks_perfect",
    ),
    denoising(
        "daedal",
        "threshold decoding of a canvas that grows until the model sees its end",
        "2508.00819",
        policies.threshold,
        grow=daedal,
        benchmark="tasks_perfect",
    ),
    denoising(
        "odd",
        "a quota of the most probable tokens; samples of a prompt repel one another",
        "2603.04893",
        lambda: policies.quota("max_prob"),
        fuse=orthogonal_repulsion,
        benchmark="canvas_laws",
    ),
    denoising(
        "editing",
        "threshold decoding that writes tokens again where the model now prefers others",
        "LLaDA2.1",
        lambda: policies.threshold(0.7),
        remask=editing,
        benchmark="canvas_laws",
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
