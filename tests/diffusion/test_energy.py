"""Energy resampling: importance weights by enumeration, the law of a step, and what it must not touch."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import decoding, diffusion, generation
from jaxdec.diffusion import denoise, energy, schedules, unmask
from jaxdec.diffusion.resample import Proposals
from jaxdec.testing import oracles
from jaxdec.testing.battery import FALSE_POSITIVE_RATE
from jaxdec.testing.statistics import g_test
from tests.diffusion.canvases import VOCAB, decode, oracle, same, texts

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZE, TOKENS = 3, 3
PROMPT = 1


@functools.cache
def joint():
    """One joint law: the denoiser's conditionals and the causal energy are both of it. The prompt is position 0."""
    return oracles.joint_oracle(TOKENS, SIZE + 1, seed=3, concentration=0.3)


def truth():
    """`p(x | prompt)`, `[V] * SIZE`."""
    table = np.asarray(joint()[1], np.float64)[PROMPT]
    return table / table.sum()


def product():
    """What one step draws: each position by its own marginal."""
    law = truth()
    sides = [law.sum(tuple(j for j in range(SIZE) if j != i)) for i in range(SIZE)]
    return functools.reduce(np.multiply.outer, sides)


def one_step(proposals, temperature=1.0):
    """The law of a fill that is drawn by self-normalised weights, summed over all K proposals."""
    p, q = truth().reshape(-1), product().reshape(-1)
    weight = (p / q) ** (1 / temperature)
    law = np.zeros_like(p)
    for each in itertools.product(range(p.size), repeat=proposals):
        each = list(each)
        own = weight[each] / weight[each].sum() if weight[each].sum() else np.eye(proposals)[0]
        np.add.at(law, each, q[each].prod() * own)
    return law


def draws(decoder, count, **knobs):
    _, params = joint()
    given = {"target": params, "energy": params}
    request = generation.prepare(
        decoder, given, np.full((count, 1), PROMPT), max_new_tokens=SIZE, eos=(), **knobs
    )
    request = dataclasses.replace(request, prompt=request.prompt[:, :1], capacity=SIZE + 1)
    state = decoding.init(decoder, given, request)
    state, _ = decoding.run(decoder, given, state, jax.random.key(5))
    counts = np.zeros((TOKENS,) * SIZE)
    np.add.at(counts, tuple(np.asarray(state.rows.tokens)[:, 1:].T), 1)
    return counts.reshape(-1)


def far(law):
    return np.abs(law - truth().reshape(-1)).sum() / 2


def test_more_proposals_come_nearer_to_the_joint_law():
    """The figures of the catalogue, by enumeration; the weights with the other sign go away from it."""
    found = [far(one_step(k)) for k in (1, 2, 3)]
    np.testing.assert_allclose(one_step(1), product().reshape(-1))
    assert found[0] > 0.3 and found[1] < 0.75 * found[0] and found[2] < 0.8 * found[1]
    assert far(one_step(2, -1.0)) > found[0] + 0.1
    np.testing.assert_allclose(one_step(3).sum(), 1)


@pytest.mark.parametrize("proposals", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_step_draws_by_the_importance_weights(proposals):
    model, _ = joint()
    decoder = denoise(
        model, unmask=unmask.quota("max_prob", steps=1), resample=energy(model, proposals=proposals)
    )
    counts = draws(decoder, 20_000)
    assert g_test(counts, one_step(proposals)) > FALSE_POSITIVE_RATE
    assert (
        g_test(counts, product().reshape(-1)) < 1e-12
    )  # the control: such a test sees the difference


@pytest.mark.slow
def test_outside_of_its_window_it_does_nothing():
    model, _ = joint()
    rule = energy(model, proposals=2, start=0.5)
    decoder = denoise(model, unmask=unmask.quota("max_prob", steps=1), resample=rule)
    counts = draws(decoder, 10_000)
    assert g_test(counts, product().reshape(-1)) > FALSE_POSITIVE_RATE


def test_weights_are_ratios_of_laws_up_to_the_first_unknown_position():
    """Against a loop, with known positions behind masked ones and a hole."""
    model, params = joint()
    rule = energy(model, proposals=2)
    table = np.asarray(params, np.float64)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, TOKENS, (2, 3, SIZE + 1))
    tokens[:, :, 0] = PROMPT
    known = np.ones((3, SIZE + 1), bool)
    known[1, 3] = False
    known[2, 1] = False
    log_probs = np.where(rng.random((2, 3, SIZE + 1)) < 0.5, rng.normal(size=(2, 3, SIZE + 1)), 0)
    given = Proposals(
        jnp.asarray(tokens, jnp.int32),
        jnp.asarray(known),
        jnp.ones(3, jnp.int32),
        jnp.asarray(log_probs, jnp.float32),
        jnp.zeros((3, 2)),
    )
    found = np.asarray(jax.jit(rule.log_weights)(params, given))
    for row, end in enumerate((4, 3, 1)):
        for k in range(2):
            text = tokens[k, row]
            inside = lambda n, text=text: table[tuple(text[:n])].sum()
            expected = np.log(inside(end) / inside(1)) - log_probs[k, row, 1:end].sum()
            np.testing.assert_allclose(found[row, k], expected, rtol=1e-4, atol=1e-5)


def hash_pair():
    """A canvas and a causal energy of another law with the canvas's tokens."""
    canvas, params = oracle(canvas=True)
    causal = dataclasses.replace(oracle()[0], any_subset=False)
    return canvas, causal, {"target": params, "energy": params}


def test_rows_are_independent_and_greedy_rows_are_left_alone():
    canvas, causal, given = hash_pair()
    settings = dict(unmask=unmask.quota("max_prob", steps=3), schedule=schedules.blocks(8))
    plain = denoise(canvas, **settings)
    decoder = denoise(canvas, **settings, resample=energy(causal, proposals=3))
    heat = np.array([0.9, 0.0, 0.9])
    found = decode(decoder, given, temperature=heat)
    greedy = decode(plain, given, temperature=0.0)
    assert texts(found)[1] == texts(greedy)[1] and texts(found)[0] != texts(greedy)[0]
    forwards = np.asarray(found.stats.target_forwards)
    np.testing.assert_array_equal(found.stats.draft_forwards, 3 * forwards)
    window = decode(decoder, given, temperature=heat, energy_from=0.5, energy_to=0.01)
    assert (np.asarray(window.stats.draft_forwards) < 3 * forwards).all()
    low = np.asarray(found.log_probs) <= 0
    assert low.all() and np.isfinite(np.asarray(found.raw_log_probs)).all()


@pytest.mark.slow
def test_one_proposal_changes_nothing_but_the_noise():
    canvas, causal, given = hash_pair()
    policy = unmask.quota("token_prob", steps=3)  # its noise is by step as well
    plain = decode(denoise(canvas, unmask=policy), given, temperature=0.8)
    alone = denoise(canvas, unmask=policy, resample=energy(causal, proposals=1))
    same(plain, decode(alone, given, temperature=0.8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c, a: energy(c), "energy is that of a causal model; this model fills a canvas"),
        (lambda c, a: energy(a, proposals=0), "at least 1 proposal, got 0"),
        (lambda c, a: energy(a, temperature=0.0), "temperature must be above 0, got 0"),
        (lambda c, a: energy(a, start=0.2, stop=0.4), "got 0.2 to 0.4"),
        (lambda c, a: denoise(c, resample=energy(a), branches=2), "one branch, got 2"),
        (
            lambda c, a: denoise(c, resample=energy(dataclasses.replace(a, vocab_size=5))),
            f"has {VOCAB} tokens, the model that resamples 5",
        ),
        (lambda c, a: denoise(c, resample=diffusion.prophet()), "kind Resample, got Prophet"),
    ],
)
def test_bad_settings(make, message):
    canvas, causal, _ = hash_pair()
    with pytest.raises(ValueError, match=message):
        make(canvas, causal)


def test_a_missing_energy_and_an_order():
    canvas, causal, given = hash_pair()
    decoder = denoise(canvas, resample=energy(causal))
    with pytest.raises(ValueError, match="'energy'"):
        decode(decoder, {"target": given["target"]})
    tokens, visible = np.zeros((1, 4), int), np.array([[True, False, True, False]])
    with pytest.raises(ValueError, match="the request has an order"):
        jaxdec.infill(decoder, given, tokens, visible, rng=0)
