"""The canvas decoder from its parts.

denoise(model, schedule, unmask, remask, fuse, stop, resample, joint, grow, refresh)
"""

from typing import Literal

from jaxdec.arguments import check_type
from jaxdec.diffusion import schedules
from jaxdec.diffusion.contract import Unmask
from jaxdec.diffusion.fuse import Fuse
from jaxdec.diffusion.grow import Grow
from jaxdec.diffusion.joint import Joint
from jaxdec.diffusion.loop import Denoise
from jaxdec.diffusion.refresh import Refresh, none
from jaxdec.diffusion.remask import Remask
from jaxdec.diffusion.resample import Resample
from jaxdec.diffusion.schedules import Schedule, SpanRule
from jaxdec.diffusion.stop import Stop
from jaxdec.diffusion.unmask import threshold
from jaxdec.model import Model

SPANS: dict[str, SpanRule] = {"full": schedules.Full(), "causal": schedules.BlockCausal()}
"""Span rules by the names that `denoise` takes."""


def denoise(
    model: Model,
    *,
    unmask: Unmask | None = None,
    schedule: Schedule | None = None,
    remask: Remask | None = None,
    fuse: Fuse | None = None,
    stop: Stop | None = None,
    grow: Grow | None = None,
    resample: Resample | None = None,
    joint: Joint | None = None,
    refresh: Refresh | None = None,
    attention: Literal["full", "causal"] | SpanRule | None = None,
    guided: bool = False,
    branches: int = 1,
) -> Denoise:
    """Masked and block diffusion decoding: several positions of a canvas a forward.

        x_i ~ q(. | canvas)  for every masked i of the active group;   commit those that the policy picks

    until the canvas is full. Rows end at the first stop of their finished prefix, whatever stands behind it.

    Args:
      model: predicts the token at the place of each row (`Model.mask_token`), or answers queries
        (`any_subset.two_stream`, which then reads committed tokens alone).
      unmask: the policy; `unmask.threshold()` if not given.
      schedule: groups of positions; `schedules.whole()` if not given.
      remask: takes committed tokens of the active group back; noise is then by position and step.
      fuse: changes the logits by those of earlier steps.
      stop: commits all that is left of a group early.
      grow: begins with a shorter canvas and lengthens it; for the whole canvas as one group, without a cache or
        branches.
      resample: draws several fills of a group and takes one; noise is then by position and step.
      joint: gives laws for further steps after each forward, which see the tokens of the steps before.
      refresh: which positions are computed again in a step; `refresh.none()` if not given.
      attention: `"full"` for models that see the whole canvas, `"causal"` for those that see their block and the blocks
        before it, with the blocks of the schedule, or any other rule (`schedules.SpanRule`); the schedule's own if not
        given, which is full unless it says otherwise.
      guided: classifier-free guidance with the prompt masked, `l = l_without + (guidance + 1) (l_with - l_without)`;
        `guidance` is a knob. Twice the rows.
      branches: D. With more than one, the canvases that the next D - 1 steps would lead to are guessed and scored in
        the same forward, and as many steps are taken as were guessed right: FreeDave. D times the rows.

    Raises:
      ValueError: for parts that do not fit together.

    Exactness: that of the policy, heuristic for most; see there. Branches change nothing but the number of forwards,
    token for token, greedy or sampled (a refresh period counts forwards, so it should be left alone with them). Exact
    caches change nothing; approximate ones nothing at a refresh period of 1.

    Source: LLaDA 2502.09992, Fast-dLLM 2505.22618, SDAR 2510.06303; FreeDave 2510.00294 with equality of whole
    canvases, and fixed noise a position, so that it is lossless above temperature 0 as well.
    """
    _check_model(model)
    unmask = threshold() if unmask is None else unmask
    schedule = schedules.whole() if schedule is None else schedule
    refresh = none() if refresh is None else refresh
    _check_kinds(
        unmask=(unmask, Unmask),
        schedule=(schedule, Schedule),
        remask=(remask, Remask),
        fuse=(fuse, Fuse),
        stop=(stop, Stop),
        grow=(grow, Grow),
        resample=(resample, Resample),
        joint=(joint, Joint),
        refresh=(refresh, Refresh),
    )
    if refresh.partial:
        _check_partial(model, schedule, attention, branches)
        attention = refresh.spans
    spans = SPANS.get(attention, attention) if isinstance(attention, str) else attention
    spans = schedule.spans if spans is None else spans
    if not isinstance(spans, SpanRule):
        raise ValueError(f"attention must be full, causal or a SpanRule, got {attention!r}")
    if refresh.needs_blocks and not spans.one_way:
        raise ValueError("this refresh rule is for block-causal attention; give attention='causal'")
    if spans.one_way and not schedule.keeps_units:
        raise ValueError(
            f"with {type(spans).__name__} attention units are fixed, but groups of this {type(schedule).__name__} "
            "reach over their ends; give it `within`"
        )
    if model.any_subset and type(schedule).inputs is not Schedule.inputs:
        raise ValueError(
            f"{type(schedule).__name__} has an input rule, but the model answers queries: it is fed no unknown position"
        )
    if model.reads_before and spans.one_way and not schedule.in_order:
        raise ValueError(
            f"the model is shifted, and with {type(spans).__name__} attention the row before a position must be of no "
            f"later unit, but the units of this {type(schedule).__name__} do not stand in order (Schedule.in_order)"
        )
    check_type("guided", guided, bool)
    _check_branches(branches)
    if grow is not None:
        _check_still(schedule, refresh, branches)
    _check_second(model, unmask, resample, joint, branches)
    if unmask.reads_text:
        _check_stands(unmask, remask, grow)
    return Denoise(
        model=model,
        schedule=schedule,
        unmask=unmask,
        remask=remask,
        fuse=fuse,
        stop=stop,
        grow=grow,
        resample=resample,
        joint=joint,
        refresh=refresh,
        spans=spans,
        guided=guided,
        branches=branches,
    )


def _check_partial(model: Model, schedule: Schedule, attention: object, branches: int) -> None:
    """Raises `ValueError` for what does not go with a refresh rule that computes a part of the group."""
    if type(schedule) is not schedules.Whole:
        got = type(schedule).__name__
        raise ValueError(f"this refresh rule is for one group, schedules.whole(), got {got}")
    if attention not in (None, "full"):
        raise ValueError(f"this refresh rule is for full attention, got {attention!r}")
    if branches != 1:
        raise ValueError(f"this refresh rule has one branch, got {branches}")
    if model.reads_before:
        raise ValueError(
            "this refresh rule is for models that predict in place, and this one is shifted"
        )


def _check_still(schedule: Schedule, refresh: Refresh, branches: int) -> None:
    """Raises `ValueError` for what goes by positions, on a canvas whose tokens move."""
    if type(schedule) is not schedules.Whole:
        raise ValueError(
            f"a canvas that grows is one group, schedules.whole(), got {type(schedule).__name__}: for blocks, "
            "unmask.in_blocks(...)"
        )
    if refresh.kept:
        raise ValueError(f"a canvas that grows has no cache, got {type(refresh).__name__}")
    if branches != 1:
        raise ValueError(f"a canvas that grows has one branch, got {branches}")


def _check_known(model: Model, known: int, name: str) -> None:
    """Raises `ValueError` if a second model knows other tokens than the canvas has; one that knows 0 knows any."""
    tokens = model.vocab_size - (model.mask_token == model.vocab_size - 1)
    if known and not tokens <= known <= model.vocab_size:
        raise ValueError(f"the canvas has {tokens} tokens, {name} {known}")


def _check_branches(branches: int) -> None:
    """Raises `ValueError` for fewer branches than one."""
    check_type("branches", branches, int)
    if branches < 1:
        raise ValueError(f"branches must be at least 1, got {branches}")


def _check_second(
    model: Model, unmask: Unmask, resample: Resample | None, joint: Joint | None, branches: int
) -> None:
    """Raises `ValueError` for second models that do not know the tokens, or that stand beside branches."""
    _check_known(model, unmask.least_vocabulary, "the model of the policy")
    beside = {}
    if resample is not None:
        _check_known(model, resample.least_vocabulary, "the model that resamples")
        beside["a canvas that is resampled"] = True
    if joint is not None:
        joint.check_model(model)
        beside["a joint rule"] = True
    beside[type(unmask).__name__] = unmask.reads_text
    for what, there in beside.items():
        if there and branches != 1:
            raise ValueError(f"{what} has one branch, got {branches}")


def _check_stands(unmask: Unmask, remask: Remask | None, grow: Grow | None) -> None:
    """Raises `ValueError` for what changes committed text, where a policy has read it."""
    got = next((type(part).__name__ for part in (remask, grow) if part is not None), None)
    if got is not None:
        raise ValueError(
            f"{type(unmask).__name__} reads committed tokens once, which must stand, got {got}"
        )


def _check_model(model: Model) -> None:
    """Raises `ValueError` for what fills no canvas."""
    if not isinstance(model, Model):
        raise ValueError(f"model must be a Model, got {type(model).__name__}")
    if not (model.canvas or model.any_subset):
        raise ValueError(f"the model {model.purpose}, and fills no canvas")


def _check_kinds(**parts: tuple[object, type]) -> None:
    """Raises `ValueError` for a part in another's place, or a function that makes one in its own."""
    for name, (part, kind) in parts.items():
        if part is None or isinstance(part, kind):
            continue
        got = getattr(part, "__name__", type(part).__name__)
        hint = f"; call it: {got}()" if callable(part) else ""
        raise ValueError(f"{name} must be of the kind {kind.__name__}, got {got}{hint}")
