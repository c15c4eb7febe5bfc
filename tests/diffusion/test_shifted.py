"""Shifted models decode what models with laws at their places do, whatever is computed and whatever is kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import drafters, generation, speculative, visibility
from jaxdec.diffusion import denoise, refresh, schedules, shifted, unmask
from jaxdec.model import Inputs
from jaxdec.testing import oracles, parts
from jaxdec.testing.parts.shift import SHIFTED
from tests.diffusion.canvases import (
    BUDGET,
    LENGTHS,
    VOCAB,
    decode,
    forwards,
    oracle,
    same,
    transformer,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
HEAT = np.array([0.0, 0.8, 1.0])
FULL = dict(schedule=schedules.blocks(8))
CAUSAL = dict(schedule=schedules.blocks(8, from_start=True), attention="causal")
AFTER_PROMPT = dict(schedule=schedules.blocks(8), attention="causal")
NESTED = dict(schedule=schedules.blocks(4, within=8, from_start=True), attention="causal")


def ahead():
    """An oracle that decodes like `oracle(True)`, though its rows predict one position ahead."""
    model, params = oracle()
    return shifted(oracles.canvas(model, lead=1)), params


def run(made, **options):
    model, params = made
    given = {"unmask": unmask.threshold(0.4), **options}
    knobs = given.pop("knobs", {})
    return decode(denoise(model, **given), {"target": params}, temperature=HEAT, **knobs)


QUICK = ("scattered, dual",)


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SHIFTED],
)
def test_it_decodes_like_the_model_that_predicts_in_place(name):
    parts.check_shifted(name)


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        (CAUSAL, refresh.block()),
        pytest.param(NESTED, refresh.sub_block(1), marks=pytest.mark.slow),
        pytest.param(AFTER_PROMPT, refresh.block(), marks=pytest.mark.slow),
        pytest.param(FULL, refresh.dual(1), marks=pytest.mark.slow),
    ],
    ids=["block", "sub-block", "prompt", "dual"],
)
def test_what_is_kept_is_what_would_be_computed(setting, rule):
    model, params = transformer()
    made = shifted(model), params
    plain, kept = (run(made, **setting, refresh=one) for one in (refresh.none(), rule))
    same(plain, kept)
    assert forwards(plain) == forwards(kept)
    if setting is CAUSAL:
        rows = lambda result: int(result.stats.target_rows.sum())
        assert 2 * rows(kept) < rows(plain)


@pytest.mark.slow
def test_gaps_are_filled():
    """The row before a gap is a visible one, wherever its rank is."""
    rng = np.random.default_rng(3)
    tokens, visible = rng.integers(0, VOCAB, (3, 20)), rng.random((3, 20)) < 0.5
    visible[:, 0], visible[:, 5] = True, False
    found = [
        generation.infill(
            denoise(model, **FULL, refresh=refresh.dual(2), unmask=unmask.threshold(0.4)),
            {"target": params},
            tokens,
            visible,
            rng=3,
            sizes=np.array([20, 14, 17]),
            temperature=HEAT,
        )
        for model, params in (oracle(True), ahead())
    ]
    for name in ("tokens", "steps", "log_probs"):
        np.testing.assert_allclose(*(getattr(x, name) for x in found), rtol=1e-5, atol=1e-5)


def test_the_first_position_of_a_block_comes_first_and_alone():
    made, block = ahead(), 8
    policy = unmask.first_alone(unmask.quota("max_prob", steps=2))
    result = run(made, **CAUSAL, refresh=refresh.block(), unmask=policy)
    for row, (start, size) in enumerate(zip(LENGTHS.tolist(), BUDGET.tolist(), strict=True)):
        steps = np.asarray(result.steps)[row]
        for first in range(start // block * block, start + size, block):
            own = [i for i in range(first, min(first + block, start + size)) if i >= start]
            now = steps[own].tolist()
            alone = own[0] == first
            if alone:
                assert now[0] == min(now) and now.count(min(now)) == 1
                now = now[1:]
            counts = np.unique(now, return_counts=True)[1].tolist()
            half = -(-len(now) // 2)
            assert counts == [n for n in (half, len(now) - half) if n], (row, first)


@pytest.mark.parametrize(
    "rule", [pytest.param(refresh.none(), marks=pytest.mark.slow), refresh.block()]
)
def test_the_first_token_of_a_block_has_the_causal_law(rule):
    """What the row before it says, which sees the finished blocks and no mask, whatever else the block holds."""
    model, params = transformer()
    policy = unmask.first_alone(unmask.threshold(0.4))
    result = run((shifted(model), params), **CAUSAL, refresh=rule, unmask=policy)
    places = np.broadcast_to(np.arange(result.tokens.shape[1]), result.tokens.shape)
    spans = visibility.block_causal(jnp.asarray(places) // 8)
    call = jax.jit(lambda tokens, spans: model(params, Inputs(tokens, places, *spans), None).logits)
    looked = 0
    for first in range(8, places.shape[1], 8):
        rows = np.flatnonzero((first >= LENGTHS) & (first < LENGTHS + BUDGET))
        seen = np.where(places < first, np.asarray(result.tokens), VOCAB)
        logits = call(jnp.asarray(seen), spans)[:, first - 1]
        law = jax.nn.log_softmax(logits.at[:, VOCAB].set(-jnp.inf))  # no mask is drawn
        for row in rows:
            expected = law[row, int(result.tokens[row, first])]
            found = np.asarray(result.raw_log_probs)[row, first]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
            looked += 1
    assert looked >= 8


def test_the_rule_of_the_first_position_leaves_a_policy_as_it_is():
    policy = unmask.threshold(0.4)
    first = unmask.first_alone(policy)
    assert first.knobs == policy.knobs and first.names == policy.names


def test_what_a_shifted_model_cannot_decode():
    model, params = ahead()
    falling = schedules.partition([1, 0, 2])
    with pytest.raises(ValueError, match="do not stand in order"):
        denoise(model, schedule=falling, attention="causal")
    denoise(model, schedule=falling)
    denoise(model, schedule=schedules.partition([0, 1, 1]), attention="causal")
    tokens, visible = np.zeros((1, 4), int), np.array([[True, False, True, False]])
    with pytest.raises(ValueError, match="only attention='full' does"):
        generation.infill(denoise(model, **CAUSAL), {"target": params}, tokens, visible, rng=0)


def test_edges_count_what_stands_before_the_pieces_of_a_group():
    for table in ([0, 0, 1, 1], [0, 1, 0, 1], [2, 0, 0, 1, 0, 1], [1, 1, 0, 0]):
        schedule = schedules.partition(table)
        groups = np.asarray(table)
        edges = [
            sum(1 for i in np.flatnonzero(groups == group) if i == 0 or groups[i - 1] != group)
            for group in set(table)
        ]
        assert schedule.edges(len(table)) == max(edges)
        assert schedule.in_order == (sorted(table) == table)
    assert schedules.blocks(4).edges(9) == schedules.whole().edges(9) == 1

    @dataclasses.dataclass(frozen=True)
    class Own(schedules.Schedule):
        def assign(self, params, prompt, length):
            return prompt, prompt

        def largest(self, room):
            return 3, 3

    assert Own().edges(9) == 3 and not Own().in_order


@pytest.mark.slow
def test_it_drafts_as_well():
    """DiffuSpec reads the last places of a window: those before it are not computed, and not missed."""
    target, table = oracle()
    masked = [oracles.canvas(target, mask_token=VOCAB - 1, lead=lead) for lead in (0, 1)]
    found = []
    for model in (masked[0], shifted(masked[1])):
        drafter = drafters.diffuspec(model, length=4, shortest=2, candidates=3, beams=2, context=6)
        decoder = speculative(target, drafter=drafter)
        found.append(decode(decoder, {"target": table, "draft": table}, temperature=HEAT))
    same(*found)
    assert forwards(found[0]) == forwards(found[1])
