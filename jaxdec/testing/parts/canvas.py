"""Schedules and refresh rules against formulas, and what the canvas loop must leave unchanged."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdec import diffusion, generation
from jaxdec.diffusion import canvas_model, denoise, refresh, schedules, unmask
from jaxdec.diffusion.schedules import Schedule
from jaxdec.model import Model, from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.sampling import Purpose, gumbel, key_at, row_keys
from jaxdec.testing import oracles

VOCAB = 8
PROMPTS = np.random.default_rng(0).integers(0, VOCAB, (3, 13))
LENGTHS = np.array([13, 5, 1])
BUDGET = np.array([24, 17, 30])

GRIDS: dict[str, tuple[Schedule, Callable[[], list[int]]]] = {
    "raster": (schedules.raster(3, 4), lambda: [4 * h + w for h in range(3) for w in range(4)]),
    "diagonals": (
        schedules.diagonals(3, 4, 2),
        lambda: [2 * h + w for h in range(3) for w in range(4)],
    ),
    "cells": (
        schedules.cells(4, 6, 2),
        lambda: [h // 2 * 3 + w // 2 for h in range(4) for w in range(6)],
    ),
    "subsample": (
        schedules.subsample(4, 6, 2),
        lambda: [h % 2 * 2 + w % 2 for h in range(4) for w in range(6)],
    ),
    "scales": (
        schedules.scales([1, 2, 3]),
        lambda: [s for s, side in enumerate([1, 2, 3]) for _ in range(side * side)],
    ),
    "coarse to fine": (schedules.coarse_to_fine(4), lambda: [0, 1, 2, 3, 4, 4, 4, 4]),
    "depth": (schedules.depth(3, 4), lambda: [q for _ in range(3) for q in range(4)]),
    "delay": (schedules.delay(5, 3), lambda: [t + q for t in range(5) for q in range(3)]),
}
"""Schedules of pictures and codes, and the group of every position by its formula."""


def check_schedule(schedule: Schedule, groups: Callable[[int], int], size: int = 24) -> None:
    """The i-th generated position (of the sequence, if blocks are counted from there) is in group `groups(i)`."""
    prompts, length = [0, 1, 3, 4, 5, 9], size + 9
    found = np.asarray(schedule.assign(None, jnp.asarray(prompts), length)[0])
    for row, prompt in enumerate(prompts):
        for place in range(prompt + size):
            index = place if getattr(schedule, "from_start", False) else place - prompt
            wanted = groups(index) if index >= 0 else -1
            got = found[row, place]
            assert got == wanted, f"prompt of {prompt}, position {place}: group {got}, not {wanted}"


def check_schedules() -> None:
    """The schedules of jaxdec are those of their formulas."""
    for schedule, formula in GRIDS.values():
        table = formula()
        check_schedule(schedule, table.__getitem__, len(table))
    check_schedule(schedules.whole(), lambda i: 0)
    check_schedule(schedules.blocks(4), lambda i: i // 4)
    check_schedule(schedules.blocks(4, from_start=True), lambda i: i // 4)
    check_schedule(schedules.blocks(2, within=6), lambda i: i // 2)
    check_span_rule(schedules.Full(), lambda i, j: True)
    check_span_rule(schedules.BlockCausal(), lambda i, j: j <= i)
    last = (0, 2, 2, 4)
    until = lambda i, j: j <= i and (not 0 <= j < len(last) or i <= last[j])
    check_span_rule(schedules.Until(last), until)


def check_span_rule(rule: schedules.SpanRule, sees: Callable[[int, int], bool]) -> None:
    """Unit i sees unit j iff `sees(i, j)`; the prompt is unit -1."""
    units = np.arange(-1, 6)
    number, last = (np.asarray(x) for x in rule.numbers(jnp.asarray(units)))
    for (a, i), (b, j) in itertools.product(enumerate(units.tolist()), repeat=2):
        found = number[b] <= number[a] <= last[b]
        assert found == sees(int(i), int(j)), f"{rule}: unit {i} sees unit {j}: {found}"


def transformer() -> tuple[Model, Any]:
    """A canvas model of random weights, large enough that no two positions have almost the same law."""
    config = TransformerConfig(
        vocab_size=VOCAB + 1, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=16
    )
    model, params = from_nnx(Transformer(config, rngs=nnx.Rngs(3)))
    scale = lambda path, x: x * (40 if "embed" in str(path) else 3 if x.ndim == 2 else 1)
    params = jax.tree_util.tree_map_with_path(scale, params)
    return canvas_model(model, VOCAB), {"target": params}


def _decode(decoder: Any, params: Any, **options: Any) -> generation.Result:
    given: dict[str, Any] = dict(
        lengths=LENGTHS,
        max_new_tokens=BUDGET,
        rng=jax.random.key(7),
        eos=(),
        temperature=np.array([0.0, 0.7, 1.0]),
    )
    return generation.generate(decoder, params, PROMPTS, **{**given, **options})


def _same(one: generation.Result, two: generation.Result, what: str, steps: bool = True) -> None:
    for row in range(len(PROMPTS)):
        texts = [np.asarray(r.tokens)[row, : int(r.lengths[row])].tolist() for r in (one, two)]
        assert texts[0] == texts[1], f"{what}: row {row} is {texts[1]}, not {texts[0]}"
    assert one.status == two.status, f"{what}: {two.status}"
    for name in ("log_probs", "raw_log_probs"):
        first, second = (np.asarray(getattr(r, name)) for r in (one, two))
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3, err_msg=f"{what}: {name}")
    if steps:
        np.testing.assert_array_equal(one.steps, two.steps, f"{what}: steps")


SCHEDULES: dict[str, dict[str, Any]] = {
    "blocks": dict(schedule=schedules.blocks(4)),
    "causal blocks": dict(schedule=schedules.blocks(4, from_start=True), attention="causal"),
    "causal from the prompt": dict(schedule=schedules.blocks(4), attention="causal"),
    "sub-blocks": dict(schedule=schedules.blocks(4, within=8, from_start=True), attention="causal"),
}


def check_refresh(
    rule: refresh.Refresh, names: Sequence[str] = ("blocks",), made: tuple[Model, Any] | None = None
) -> None:
    """An exact rule changes nothing, and an approximate one nothing at a refresh period of 1.

    Args:
      rule: under test.
      names: of `SCHEDULES`.
      made: a canvas model and its params; a small transformer of random weights if not given.
    """
    model, params = transformer() if made is None else made
    for name in names:
        options = dict(SCHEDULES[name], unmask=unmask.threshold(0.6))
        plain = _decode(denoise(model, **options), params)
        knobs = {} if rule.exact else {"refresh_period": 1}
        cached = _decode(denoise(model, refresh=rule, **options), params, **knobs)
        _same(plain, cached, f"{rule} with {name}")


def check_refresh_sets(
    rule: refresh.Refresh,
    narrow: Callable[..., bool],
    wide: Callable[..., bool],
    when: Callable[..., bool],
) -> None:
    """Which positions a rule computes again, and when: `narrow`, `wide(place, active, first, over)` and `when(...)`.

    `place` and `active` are pairs of a group and its unit; `when` is given `(entered, entered_unit, first, over)`.
    """
    groups = np.array([[-1, 0, 0, 1, 2, 2, 3, 4]] * 5)
    units = groups // 2
    active = np.array([[0], [1], [2], [3], [4]])
    flags = np.random.default_rng(0).random((4, 5)) < 0.5
    entered, entered_unit, first, over = flags
    exists = np.ones_like(groups, bool)
    exists[:, -1] = False
    status = refresh.CanvasStatus(
        groups=jnp.asarray(groups),
        units=jnp.asarray(units),
        exists=jnp.asarray(exists),
        group=jnp.asarray(active),
        unit=jnp.asarray(active // 2),
        entered=jnp.asarray(entered),
        entered_unit=jnp.asarray(entered_unit),
        first=jnp.asarray(first),
        over=jnp.asarray(over),
        masked=jnp.asarray(exists & (groups >= active)),
        recent=jnp.zeros(groups.shape, bool),
    )
    for name, rule_of in (("narrow", narrow), ("wide", wide)):
        found = np.asarray(getattr(rule, name)(None, status))
        for b, i in np.ndindex(groups.shape):
            own = (groups[b, i], units[b, i]), (active[b, 0], active[b, 0] // 2)
            wanted = exists[b, i] and rule_of(*own, first[b], over[b])
            assert bool(found[b, i]) == bool(wanted), f"{rule}: {name}, {own[0]} while at {own[1]}"
    found = np.asarray(rule.due(None, status))
    for b in range(5):
        given = entered[b], entered_unit[b], first[b], over[b]
        assert bool(found[b]) == bool(when(*given)), f"{rule} refreshes: {given}"


_ALL = lambda place, active, first, over: True
_GROUP = lambda place, active, first, over: place[0] == active[0]
_ENTERED = lambda entered, entered_unit, first, over: entered or over
_TWO_UNITS = lambda place, active, first, over: active[1] - 1 <= place[1] <= active[1]
SETS: dict[str, tuple[refresh.Refresh, Callable, Callable, Callable]] = {
    "dual": (refresh.dual(), _GROUP, _ALL, _ENTERED),
    "prefix": (refresh.prefix(), lambda p, a, first, over: p[0] >= a[0], _ALL, _ENTERED),
    "frozen": (
        refresh.frozen(),
        lambda p, a, first, over: p[0] >= a[0],
        lambda p, a, first, over: first or over or p[0] >= a[0] - 1,
        _ENTERED,
    ),
    "block": (
        refresh.block(),
        lambda p, a, first, over: p[1] == a[1],
        _TWO_UNITS,
        lambda entered, entered_unit, first, over: entered_unit and not first,
    ),
    "sub-block": (refresh.sub_block(), _GROUP, _TWO_UNITS, _ENTERED),
}
"""The refresh rules of jaxdec, and what they compute again."""


def check_reductions(made: tuple[Model, Any] | None = None) -> None:
    """Branches, guidance and credit of no weight, and early stops at once change what they say they change, no more."""
    model, params = transformer() if made is None else made
    base: dict[str, Any] = dict(SCHEDULES["causal blocks"], unmask=unmask.threshold(0.6))
    plain = _decode(denoise(model, **base), params)
    branched = _decode(denoise(model, branches=3, **base), params)
    _same(plain, branched, "3 branches")
    fewer = np.asarray(branched.stats.target_forwards) < np.asarray(plain.stats.target_forwards)
    assert fewer.any(), "no branch ever came true"
    guided = _decode(denoise(model, guided=True, **base), params, guidance=0.0)
    _same(plain, guided, "guidance 0")
    credit = denoise(model, fuse=diffusion.credit(0.0), **base)
    _same(plain, _decode(credit, params), "credit of weight 0")
    fused = _decode(credit, params, credit_alpha=2.0)
    chosen = np.asarray(fused.raw_log_probs) != np.asarray(fused.log_probs)
    assert chosen[2].any(), "at temperature 1 the raw law is that of the model, without credit"

    whole = denoise(
        model, stop=diffusion.prophet(), unmask=unmask.quota(), schedule=schedules.blocks(4)
    )
    gaps = dict.fromkeys(("early_gap", "middle_gap", "late_gap"), -np.inf)
    at_once = _decode(whole, params, **gaps)
    np.testing.assert_array_equal(
        at_once.stats.target_forwards, -(-BUDGET // 4), "a stop at once takes a step a block"
    )
    never = _decode(whole, params, **dict.fromkeys(gaps, np.inf))
    np.testing.assert_array_equal(
        never.stats.target_forwards, BUDGET, "without a stop, a step a position"
    )


def check_masks() -> None:
    """Masks tell nothing and are never written: an oracle that reads them writes what it does when it is asked."""
    asked, table = oracles.hash_oracle(VOCAB, scale=1.5)
    masked, params = oracles.canvas(asked), {"target": table}
    for options in (
        dict(schedule=schedules.blocks(4), unmask=unmask.threshold(0.6)),
        dict(SCHEDULES["causal blocks"], unmask=unmask.left_to_right()),
    ):
        one, two = (
            _decode(denoise(model, **options), params, temperature=0.0) for model in (asked, masked)
        )
        _same(one, two, f"a canvas of masks, with {options}")
        hot = _decode(denoise(masked, **options), params, temperature=20.0)
        assert (np.asarray(hot.tokens) < VOCAB).all(), "a mask is written"


def check_noise_of_steps() -> None:
    """A policy that looks at drawn tokens gets new ones in every step; for all others a position has one draw."""
    model, table = oracles.hash_oracle(VOCAB)
    params = {"target": jnp.zeros_like(table)}  # every token is as likely: the noise alone decides
    keys = row_keys(jax.random.key(7), len(PROMPTS))
    for policy, by_step in ((unmask.quota("token_prob"), True), (unmask.quota("max_prob"), False)):
        result = _decode(denoise(model, unmask=policy), params, temperature=1.0)
        places = jnp.broadcast_to(jnp.arange(result.tokens.shape[1]), result.tokens.shape)
        at = (places, jnp.maximum(result.steps, 0)) if by_step else (places,)
        drawn = np.asarray(gumbel(key_at(keys, Purpose.TOKEN, *at), VOCAB).argmax(-1))
        for row, (start, budget) in enumerate(zip(LENGTHS, BUDGET, strict=True)):
            own = slice(start, start + budget)
            np.testing.assert_array_equal(
                np.asarray(result.tokens)[row, own], drawn[row, own], f"{policy}, row {row}"
            )


def check_group_state() -> None:
    """A group knows nothing of the one before it: counters, and what a policy remembers, begin anew."""
    model, params = transformer()
    blocks = schedules.blocks(8)
    quota = denoise(model, schedule=blocks, unmask=unmask.quota("left_to_right"))
    result = _decode(quota, params, steps=3, temperature=0.0)
    for row, (start, budget) in enumerate(zip(LENGTHS, BUDGET, strict=True)):
        steps = np.asarray(result.steps)[row, start : start + budget]
        wanted, first = [], 0
        for block in range(0, budget, 8):
            size = min(8, budget - block)
            parts = min(3, size)
            sizes = [size // parts + (i < size % parts) for i in range(parts)]
            wanted += [first + i for i, n in enumerate(sizes) for _ in range(n)]
            first += parts
        assert steps.tolist() == wanted, f"row {row}: steps {steps.tolist()}, not {wanted}"
    saber = denoise(model, schedule=blocks, unmask=unmask.saber())
    result = _decode(saber, params, minimum=1, temperature=0.0)
    for row, (start, budget) in enumerate(zip(LENGTHS, BUDGET, strict=True)):
        steps = np.asarray(result.steps)[row, start : start + budget]
        for block in range(0, budget, 8):
            own = steps[block : block + 8]
            first = int((own == own.min()).sum())
            assert first == 1, f"row {row}: {first} positions at once, with no past to compare with"


def check_remasked(made: tuple[Model, Any] | None = None) -> None:
    """What was emitted is never taken back, prompts least of all: the rows are the finished canvas."""
    from jaxdec import decoding

    model, params = transformer() if made is None else made
    decoder = denoise(
        model,
        schedule=schedules.blocks(8, from_start=True),
        unmask=unmask.saber(),
        remask=diffusion.backtracking(4),
    )
    request = generation.prepare(
        decoder,
        params,
        PROMPTS,
        lengths=LENGTHS,
        max_new_tokens=jnp.asarray(BUDGET),
        temperature=np.array([0.0, 0.7, 1.0]),
        minimum=4,
    )
    state = decoding.init(decoder, params, request)
    for state, _ in decoding.stream(decoder, params, state, jax.random.key(7)):  # noqa: B020
        canvas, length = state.canvas, np.asarray(state.rows.length)
        masked, groups = np.asarray(canvas.masked), np.asarray(canvas.groups)
        for row in np.flatnonzero(masked.any(1)).tolist():
            emitted = groups[row, LENGTHS[row] : length[row]]
            active = groups[row, masked[row]].min()
            assert (emitted < active).all(), f"row {row}: a group is emitted before it is finished"
    for row in range(3):
        end = LENGTHS[row] + BUDGET[row]
        emitted, held = (np.asarray(x)[row, :end] for x in (state.rows.tokens, state.canvas.tokens))
        np.testing.assert_array_equal(emitted, held, f"row {row}: emitted, and on the canvas")
        prompt = PROMPTS[row, : LENGTHS[row]]
        np.testing.assert_array_equal(emitted[: LENGTHS[row]], prompt, f"the prompt of row {row}")
