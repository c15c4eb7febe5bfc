"""What the canvas loop becomes at the ends of its knobs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import diffusion
from jaxdec.decoding import Exactness, Status
from jaxdec.diffusion import denoise, refresh, schedules, unmask
from jaxdec.testing import oracles
from tests.decoding.moving import Resampled
from tests.diffusion.canvases import (
    BUDGET,
    LENGTHS,
    PROMPTS,
    VOCAB,
    decode,
    forwards,
    oracle,
    same,
    texts,
    transformer,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
SAMPLED = dict(temperature=0.9)


@pytest.mark.parametrize("canvas", [False, True], ids=["queries", "masks"])
def test_left_to_right_is_sequential_decoding(canvas):
    model, params = oracle(canvas)
    plain = decode(jaxdec.autoregressive(oracle()[0]), {"target": params}, **SAMPLED)
    found = decode(denoise(model, unmask=unmask.left_to_right()), {"target": params}, **SAMPLED)
    assert texts(found) == texts(plain) and found.status == plain.status
    assert forwards(found) == BUDGET.tolist()
    starts = np.concatenate([np.arange(n) for n in BUDGET])
    steps = [
        np.asarray(found.steps)[i, n : n + m]
        for i, (n, m) in enumerate(zip(LENGTHS, BUDGET, strict=True))
    ]
    np.testing.assert_array_equal(np.concatenate(steps), starts)


def test_left_to_right_fills_any_subset_as_sequential_decoding_does():
    model, params = oracle()
    visible = np.random.default_rng(1).random((3, 20)) < 0.4
    visible[:, 0] = True
    tokens = np.random.default_rng(2).integers(0, VOCAB, (3, 20))
    fill = lambda decoder: jaxdec.infill(
        decoder, {"target": params}, tokens, visible, rng=jax.random.key(0), temperature=1.0
    )
    one, two = (
        fill(jaxdec.autoregressive(model)),
        fill(denoise(model, unmask=unmask.left_to_right())),
    )
    np.testing.assert_array_equal(one.tokens, two.tokens)
    blocks = fill(denoise(model, unmask=unmask.threshold(0.5), schedule=schedules.blocks(1)))
    np.testing.assert_array_equal(one.tokens, blocks.tokens)


def test_blocks_of_one_are_sequential_decoding_under_every_policy():
    model, params = oracle(True)
    plain = decode(jaxdec.autoregressive(oracle()[0]), {"target": params}, **SAMPLED)
    for policy in (
        unmask.threshold(0.2),
        unmask.first_hitting(),
        unmask.saber(),
        unmask.ancestral(3),
    ):
        steps = {"steps": 1} if "steps" in policy.knobs else {}
        found = decode(
            denoise(model, unmask=policy, schedule=schedules.blocks(1)),
            {"target": params},
            **SAMPLED,
            **steps,
        )
        assert texts(found) == texts(plain)
        assert forwards(found) == BUDGET.tolist()


def test_blocks_of_one_are_autoregressive_decoding_of_the_same_weights():
    model, params = transformer()
    decoder = denoise(
        model,
        schedule=schedules.blocks(1, from_start=True),
        attention="causal",
        refresh=refresh.block(),
    )
    plain = jaxdec.autoregressive(diffusion.next_token(model))
    for temperature in (0.0, 1.0):
        same(
            decode(decoder, {"target": params}, temperature=temperature),
            decode(plain, {"target": params}, temperature=temperature),
        )


def test_one_large_block_is_the_whole_canvas():
    model, params = transformer()
    whole = decode(denoise(model), {"target": params}, **SAMPLED, threshold=0.3)
    one = decode(
        denoise(model, schedule=schedules.blocks(64)), {"target": params}, **SAMPLED, threshold=0.3
    )
    same(whole, one)
    assert max(forwards(whole)) < max(BUDGET)


def test_a_threshold_of_one_is_one_token_a_step():
    model, params = transformer()
    found = decode(denoise(model, unmask=unmask.threshold(1.0)), {"target": params}, **SAMPLED)
    same(
        found,
        decode(denoise(model, unmask=unmask.quota("max_prob")), {"target": params}, **SAMPLED),
    )
    assert forwards(found) == BUDGET.tolist()
    dynamic = unmask.dynamic_threshold(1.0, by="max_prob")
    same(found, decode(denoise(model, unmask=dynamic), {"target": params}, **SAMPLED))


@pytest.mark.parametrize("spread", ["even", "linear_time", "cosine"])
def test_a_quota_takes_its_steps(spread):
    model, params = oracle()
    decoder = denoise(model, unmask=unmask.quota("random", spread=spread))
    for steps in (1, 5):
        assert forwards(decode(decoder, {"target": params}, steps=steps)) == [steps] * 3
    assert forwards(decode(decoder, {"target": params}, steps=[0, 4, 100])) == [24, 4, 30]


def test_prophet_at_its_limits():
    model, params = oracle()
    policy, stop = unmask.quota("margin"), diffusion.prophet()
    plain = decode(denoise(model, unmask=policy), {"target": params}, **SAMPLED)
    early = denoise(model, unmask=policy, stop=stop)
    limits = lambda x: {name: x for name in stop.knobs}
    same(plain, decode(early, {"target": params}, **SAMPLED, **limits(np.inf)))
    assert forwards(decode(early, {"target": params}, **SAMPLED, **limits(-np.inf))) == [1, 1, 1]


def test_prophet_ends_the_whole_canvas():
    """In blocks of a group that is the canvas, one more forward at most; in groups, one a group that is left."""
    model, params = oracle()
    policy, stop = unmask.quota("margin"), diffusion.prophet()
    now = {name: -np.inf for name in stop.knobs}
    at_once = denoise(model, unmask=unmask.in_blocks(policy, 8), stop=stop)
    assert forwards(decode(at_once, {"target": params}, **SAMPLED, **now)) == [1, 1, 1]
    groups = denoise(model, unmask=policy, schedule=schedules.blocks(8), stop=stop)
    knobs = dict(early_gap=np.inf, middle_gap=-np.inf, late_gap=np.inf)
    # A third of 24 is a block: the other two follow in a step each. Not so if progress were that of a block.
    assert forwards(decode(groups, {"target": params}, **SAMPLED, **knobs)) == [10, 9, 13]
    at_once = decode(at_once, {"target": params}, **SAMPLED, **knobs)
    assert forwards(at_once) == [9, 7, 11]


@pytest.mark.parametrize("policy", [unmask.quota("margin", steps=3), unmask.saber()])
def test_blocks_of_one_group_are_groups(policy):
    model, params = oracle(canvas=True)
    groups = denoise(model, unmask=policy, schedule=schedules.blocks(8))
    blocks = denoise(model, unmask=unmask.in_blocks(policy, 8))
    same(*(decode(made, {"target": params}, **SAMPLED) for made in (groups, blocks)))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_dynamic_threshold_at_temperature_0_is_a_threshold(temperature):
    """Its published score is 1 everywhere there; above, it is another rule."""
    model, params = oracle()
    options = dict(temperature=temperature, threshold=0.5)
    found, plain = (
        decode(denoise(model, unmask=policy), {"target": params}, **options)
        for policy in (unmask.dynamic_threshold(), unmask.threshold())
    )
    assert (
        (texts(found) == texts(plain)) == (forwards(found) == forwards(plain)) == (temperature == 0)
    )
    assert max(forwards(found)) > 3


def test_credit_without_weight_changes_nothing():
    model, params = oracle()
    plain = decode(denoise(model), {"target": params}, threshold=0.6, **SAMPLED)
    credited = denoise(model, fuse=diffusion.credit())
    same(plain, decode(credited, {"target": params}, threshold=0.6, credit_alpha=0.0, **SAMPLED))
    assert texts(decode(credited, {"target": params}, threshold=0.6, **SAMPLED)) != texts(plain)


def test_guidance():
    for model, params in (transformer(), oracle()):
        plain = decode(denoise(model), {"target": params}, threshold=0.5, **SAMPLED)
        guided = denoise(model, guided=True)
        same(plain, decode(guided, {"target": params}, threshold=0.5, **SAMPLED, guidance=0.0))
        assert texts(
            decode(guided, {"target": params}, threshold=0.5, **SAMPLED, guidance=2.0)
        ) != texts(plain)


def test_guidance_with_a_cache():
    """It holds every row twice, and both move where rows take the past of others."""
    model, params = transformer()
    options = dict(threshold=0.4, guidance=1.5, hypotheses=2, **SAMPLED)
    blocks = dict(schedule=schedules.blocks(8, from_start=True), attention="causal", guided=True)
    plain, cached = denoise(model, **blocks), denoise(model, **blocks, refresh=refresh.block())
    found, expected = (
        decode(Resampled(decoder), {"target": params}, **options) for decoder in (cached, plain)
    )
    same(expected, found)


def test_groups_are_committed_in_order():
    model, params = oracle()
    table = np.random.default_rng(4).permutation(np.arange(30) // 3)
    found = decode(
        denoise(model, schedule=schedules.partition(table)), {"target": params}, threshold=0.4
    )
    for row, (start, count) in enumerate(zip(LENGTHS, BUDGET, strict=True)):
        steps = np.asarray(found.steps)[row, start : start + count]
        ends = [steps[table[:count] == g].max(initial=-1) for g in range(10)]
        starts = [steps[table[:count] == g].min(initial=99) for g in range(10)]
        assert all(e < s for e, s in zip(ends, starts[1:], strict=False) if s < 99 and e >= 0)


def test_a_row_ends_at_the_first_stop_of_its_prefix():
    model, params = oracle()
    free = decode(denoise(model), {"target": params}, threshold=0.3, temperature=0.0)
    text = texts(free)[0]
    eos = text[LENGTHS[0] + 4]
    ended = decode(denoise(model), {"target": params}, threshold=0.3, temperature=0.0, eos=[eos])
    end = text.index(eos, LENGTHS[0]) + 1
    assert texts(ended)[0] == text[:end] and ended.status[0] is Status.EOS
    assert not np.asarray(ended.tokens)[0, end:].any()
    assert forwards(ended)[0] <= forwards(free)[0]


def test_backtracking_takes_tokens_back_and_still_ends():
    model, params = transformer()
    plain = decode(denoise(model, unmask=unmask.saber(3)), {"target": params}, **SAMPLED)
    found = decode(
        denoise(model, unmask=unmask.saber(3), remask=diffusion.backtracking(3)),
        {"target": params},
        **SAMPLED,
    )
    assert found.status == [Status.LENGTH] * 3
    assert texts(found) != texts(plain)
    assert all(n <= m for n, m in zip(forwards(found), BUDGET, strict=True))


@dataclasses.dataclass(frozen=True)
class FirstAgain(diffusion.Remask):
    """Takes the first position of a group back in its second step, or nothing."""

    back: bool

    def take_back(self, params, seen, reveal, state, knobs):
        first = jnp.arange(reveal.shape[1]) == 0
        return first & (seen.step == 1)[:, None] & self.back, state


def test_a_token_taken_back_is_drawn_with_fresh_noise():
    model, params = oracles.hash_oracle(VOCAB, scale=0.0)  # uniform, whatever the canvas holds
    rows = 128
    first, again = (
        np.asarray(
            decode(
                denoise(model, unmask=unmask.left_to_right(), remask=FirstAgain(back)),
                {"target": params},
                prompt=np.ones((rows, 1), int),
                lengths=None,
                max_new_tokens=3,
            ).tokens
        )[:, 1:]
        for back in (False, True)
    )
    np.testing.assert_array_equal(first[:, 1], again[:, 1])
    assert (first[:, 0] == again[:, 0]).mean() < 2.5 / VOCAB  # by chance 1 / VOCAB


EVERYTHING = [
    dict(
        unmask=unmask.quota("margin", steps=3, spread="cosine", position_temperature=0.2),
        schedule=schedules.blocks(8, from_start=True),
        attention="causal",
        refresh=refresh.block(),
        fuse=diffusion.credit(),
        stop=diffusion.prophet(),
        remask=diffusion.backtracking(),
        branches=2,
    ),
    dict(
        unmask=unmask.ancestral(4),
        schedule=schedules.partition(np.arange(30) // 5),
        refresh=refresh.dual(2),
        guided=True,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("options", EVERYTHING, ids=["branches", "guided"])
def test_wide_integers_change_nothing(options):
    """`JAX_ENABLE_X64`: sums, sorts and counts are then int64, the state stays as it is."""
    model, params = transformer()
    decoder = denoise(model, **options)
    plain = decode(decoder, {"target": params}, **SAMPLED)
    with jax.enable_x64(True):
        wide = decode(decoder, {"target": params}, **SAMPLED)
    same(plain, wide)


def test_exactness_is_that_of_the_parts():
    model = oracle()[0]
    assert denoise(model, unmask=unmask.left_to_right()).exactness is Exactness.TOKEN_IDENTICAL
    assert denoise(model, unmask=unmask.first_hitting()).exactness is Exactness.APPROXIMATE
    for options in (
        dict(refresh=refresh.dual()),
        dict(stop=diffusion.prophet()),
        dict(guided=True),
    ):
        decoder = denoise(model, unmask=unmask.left_to_right(), **options)
        assert decoder.exactness is Exactness.HEURISTIC


def test_values_of_knobs_make_no_other_decoder():
    model = oracle()[0]
    one, two = (
        denoise(model, unmask=unmask.threshold(x), refresh=refresh.dual(3)) for x in (0.9, 0.5)
    )
    assert one == two and hash(one) == hash(two)
    assert one.knobs["threshold"].default == 0.9 and two.knobs["threshold"].default == 0.5
    assert one != denoise(model, unmask=unmask.threshold(0.9, by="margin"), refresh=refresh.dual(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: denoise(dataclasses.replace(m, any_subset=False)), "predicts next tokens"),
        (lambda m: denoise(m, refresh=refresh.block()), "block-causal attention"),
        (lambda m: denoise(m, attention="sparse"), "'sparse'"),
        (lambda m: denoise(m, branches=0), "at least 1, got 0"),
        (lambda m: denoise(oracle()[1]), "model must be a Model, got ArrayImpl"),
        (lambda m: denoise(denoise(m)), "model must be a Model, got Denoise"),
        (lambda m: denoise(m, unmask=unmask.threshold), r"kind Unmask, got threshold; call it: "),
        (lambda m: denoise(m, unmask="threshold"), "unmask must be of the kind Unmask, got str"),
        (lambda m: denoise(m, remask=diffusion.prophet()), "kind Remask, got Prophet"),
        (lambda m: denoise(m, refresh=schedules.whole()), "kind Refresh, got Whole"),
        (lambda m: denoise(m, schedule=schedules.Blocks), "kind Schedule, got Blocks"),
        (lambda m: unmask.threshold(by="luck"), "'luck'"),
        (lambda m: refresh.dual(0), "at least 1 step, got 0"),
        (lambda m: diffusion.next_token(m), "only a canvas model"),
        (
            lambda m: diffusion.canvas_model(dataclasses.replace(m, any_subset=False), 99),
            "99 is outside",
        ),
    ],
)
def test_parts_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make(oracle()[0])


def test_requests_that_cannot_be_served():
    model, params = oracle()
    with pytest.raises(ValueError, match="16 positions, a row asks for 30"):
        decode(denoise(model, schedule=schedules.raster(4, 4)), {"target": params})
    with pytest.raises(ValueError, match="refresh_period must lie in"):
        decode(denoise(model, refresh=refresh.dual()), {"target": params}, refresh_period=0)
    with pytest.raises(ValueError, match="threshold must be one value or 3"):
        decode(denoise(model), {"target": params}, threshold=[0.1, 0.2])
    with pytest.raises(ValueError, match="steps must be an integer"):
        decode(denoise(model, unmask=unmask.quota()), {"target": params}, steps=0.5)
    with pytest.raises(ValueError, match=r"no setting 'factor'.* own are threshold"):
        decode(denoise(model), {"target": params}, factor=1.0)
    with pytest.raises(ValueError, match=r"jaxdec\.denoise, or .* diffusion\.next_token"):
        decode(jaxdec.autoregressive(oracle(True)[0]), {"target": params})


def test_a_model_without_a_law_ends_its_row():
    model, params = oracle()
    broken = jnp.where(jnp.arange(params.shape[0])[:, None] % 5 > 0, jnp.nan, params)
    for policy in (unmask.threshold(0.5), unmask.entropy_bound(1.0), unmask.factor(1.0)):
        found = decode(denoise(model, unmask=policy), {"target": broken})
        assert Status.NONFINITE in found.status
        for row, length in enumerate(np.asarray(found.lengths)):
            assert np.isfinite(np.asarray(found.log_probs)[row, :length]).all()
            assert texts(found)[row][: LENGTHS[row]] == PROMPTS[row, : LENGTHS[row]].tolist()
