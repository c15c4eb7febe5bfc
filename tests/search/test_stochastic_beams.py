"""Sequences drawn without replacement: the law of the rule by enumeration, and the sampler against it."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import search
from jaxdec.search import beam_rules
from jaxdec.testing import oracles
from jaxdec.testing.statistics import g_test
from tests.search import beam_twin

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE, DEPTH = 3, 2
ORACLE, JOINT = oracles.joint_oracle(SIZE, DEPTH + 1, seed=4, concentration=0.6)
PROMPT = 1


def leaves():
    """The law of the sequences after the prompt, float64 `[SIZE] * DEPTH`."""
    law = np.asarray(JOINT, np.float64)[PROMPT]
    return law / law.sum()


def drawn_in_order(law, count):
    """The law of the first `count` of a draw without replacement: by tuple of outcomes."""
    found = {}
    for drawn in itertools.permutations(range(len(law)), count):
        left = 1 - np.concatenate([[0.0], np.cumsum(law[list(drawn[:-1])])])
        found[drawn] = np.prod(law[list(drawn)] / left)
    return found


def beams_of(table, width):
    """The law of ordered beams at the last level, by the events of the search.

    Where M = G_y, E = exp(-G) of the children of y arrive as clocks do: one at E_y, token v with probability p(v | y),
    the others after it at rates p(y v); gaps between beams are exponential with the rate of all that comes later. All
    waiting times have no memory, so that which event is next is a ratio of rates, whatever the times are.
    """
    beams = {((),): 1.0}
    for _ in range(table.ndim):
        found = collections.Counter()
        for prefixes, chance in beams.items():
            walk(table, prefixes, width, found, chance, (), 0)
        beams = found
    return beams


def mass(table, prefix):
    return table[prefix].sum()


def walk(table, prefixes, width, found, chance, arrived, opened):
    """Adds every order in which children arrive; the first `opened` prefixes have begun to give children."""
    if len(arrived) == width:
        found[arrived] += chance
        return
    rates = {
        (*prefix, token): mass(table, (*prefix, token))
        for prefix in prefixes[:opened]
        for token in range(len(table))
        if (*prefix, token) not in arrived
    }
    rest = 1 - sum(mass(table, prefix) for prefix in prefixes[:opened])
    opens = opened < len(prefixes)
    total = sum(rates.values()) + (rest if opens else 0.0)
    if total <= 1e-15:
        found[arrived] += chance
        return
    for child, rate in rates.items():
        walk(table, prefixes, width, found, chance * rate / total, (*arrived, child), opened)
    if opens:
        prefix = prefixes[opened]
        for token in range(len(table)):
            child = (*prefix, token)
            share = rest / total * mass(table, child) / mass(table, prefix)
            walk(table, prefixes, width, found, chance * share, (*arrived, child), opened + 1)


@pytest.mark.parametrize(("width", "size"), [(1, 3), (2, 3), (3, 2)])
def test_the_law_of_beams_is_that_of_draws_without_replacement(width, size):
    law = np.random.default_rng(width).dirichlet(np.full(size**3, 0.6)).reshape((size,) * 3)
    found, flat = beams_of(law, width), law.reshape(-1)
    expected = drawn_in_order(flat, width)
    assert len(found) == len(expected)
    places = {outcome: i for i, outcome in enumerate(itertools.product(range(size), repeat=3))}
    included = np.zeros(len(flat))
    for beams, chance in found.items():
        drawn = tuple(places[outcome] for outcome in beams)
        assert abs(chance / expected[drawn] - 1) < 1e-9
        included[list(drawn)] += chance
    closed = beam_rules.inclusion_probabilities(flat, width)
    assert np.abs(included / closed - 1).max() < 1e-9
    assert abs(closed.sum() - width) < 1e-9


def test_conditioned_values_are_clocks_that_are_moved():
    """In float64: exp(-G) = exp(-M) + exp(-g) - exp(-max g), near the highest value and far from it."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        for spread in (1e-6, 1.0, 20.0):
            perturbed = jnp.asarray(rng.gumbel(size=(200, 9)) * spread)
            maximum = jnp.asarray(rng.gumbel(size=200) - 3.0)
            moved = beam_rules.conditioned(perturbed, maximum)
            np.testing.assert_allclose(moved.max(-1), maximum, rtol=1e-12)
            clocks = np.exp(-np.asarray(perturbed, np.longdouble))
            expected = np.exp(-np.asarray(maximum, np.longdouble))[:, None]
            expected = expected + clocks - clocks.min(-1, keepdims=True)
            np.testing.assert_allclose(
                np.exp(-np.asarray(moved, np.longdouble)), expected, rtol=1e-9
            )
    none = beam_rules.conditioned(
        jnp.array([[-jnp.inf, 0.0], [0.0, 1.0]]), jnp.array([0.5, -jnp.inf])
    )
    np.testing.assert_array_equal(none, [[-np.inf, 0.5], [-np.inf, -np.inf]])


@pytest.mark.parametrize("count", [1, 3])
def test_inclusion_given_the_threshold_is_inclusion_on_average(count):
    """E over the threshold of q is the enumerated probability: what makes the estimator unbiased.

    Without outcome i the threshold is the k-th highest of the others, with t = exp(-kappa) of density
    sum_j p_j exp(-p_j t) P(k - 1 of the rest before t); integrated over log t, where the rule of trapezoids converges
    faster than any power.
    """
    law = np.random.default_rng(1).dirichlet(np.ones(6))
    expected = beam_rules.inclusion_probabilities(law, count)
    at = np.arange(-44.0, 12.0, 0.02)
    t = np.exp(at)
    with jax.enable_x64(True):
        for i, p in enumerate(law):
            density = np.zeros_like(t)
            for j in set(range(len(law))) - {i}:
                rest = [law[n] for n in range(len(law)) if n not in (i, j)]
                before = np.zeros((count, len(t)))
                before[0] = 1
                for rate in rest:
                    came = -np.expm1(-rate * t)
                    shifted = np.concatenate([np.zeros((1, len(t))), before[:-1]])
                    before = before * (1 - came) + shifted * came
                density += law[j] * np.exp(-law[j] * t) * before[count - 1]
            chance = np.exp(np.asarray(beam_rules.inclusion(jnp.log(p), -jnp.asarray(at))))
            found = (chance * density * t).sum() * 0.02
            assert abs(found / expected[i] - 1) < 1e-9


def draw(prompts, hypotheses, seed):
    decoder = search.stochastic_beams(ORACLE)
    return jaxdec.generate(
        decoder,
        {"target": JOINT},
        np.full((prompts, 1), PROMPT),
        rng=seed,
        max_new_tokens=DEPTH,
        hypotheses=hypotheses,
        eos=(),
    )


def test_draws_have_the_enumerated_law_and_weights_are_unbiased():
    prompts, hypotheses = 8_000, 3
    result = draw(prompts, hypotheses, seed=7)
    new = np.asarray(result.tokens)[:, 1 : 1 + DEPTH]
    place = (new @ SIZE ** np.arange(DEPTH)[::-1]).reshape(prompts, hypotheses)
    flat = leaves().reshape(-1)
    expected = drawn_in_order(flat, 2)
    count = collections.Counter(map(tuple, place[:, :2].tolist()))
    pairs = list(expected)
    assert set(count) <= set(pairs)
    p = g_test(
        np.array([count[pair] for pair in pairs]), np.array([expected[pair] for pair in pairs])
    )
    assert p > 1e-4
    log_probs = np.asarray(result.log_probs).sum(1).reshape(prompts, hypotheses)
    np.testing.assert_allclose(log_probs, np.log(flat)[place], rtol=1e-4, atol=1e-5)
    perturbed = np.asarray(result.pool.scores).reshape(prompts, hypotheses)
    assert (np.diff(perturbed) <= 0).all()
    values = np.random.default_rng(2).normal(size=len(flat))
    weights = np.exp(np.asarray(beam_rules.importance(log_probs, perturbed)))
    estimates = (weights * values[place[:, :-1]]).sum(-1)
    error = estimates.std() / np.sqrt(prompts)
    assert abs(estimates.mean() - flat @ values) < 4 * error
    assert error < 0.02


def test_all_sequences_come_once_and_one_hypothesis_is_plain_sampling():
    """More hypotheses than sequences: each sequence once, in the order of perturbed values; weights are then p."""
    result = draw(2, SIZE**DEPTH + 2, seed=3)
    new = np.asarray(result.tokens)[:, 1 : 1 + DEPTH]
    scores = np.asarray(result.pool.scores).reshape(2, -1)
    for p in range(2):
        rows = new.reshape(2, -1, DEPTH)[p][: SIZE**DEPTH].tolist()
        assert len(set(map(tuple, rows))) == SIZE**DEPTH
        assert (scores[p, SIZE**DEPTH :] == -np.inf).all()
        log_probs = np.asarray(result.log_probs).sum(1).reshape(2, -1)[p]
        weights = np.exp(np.asarray(beam_rules.importance(log_probs, scores[p])))
        np.testing.assert_allclose(weights[: SIZE**DEPTH].sum(), 1, rtol=1e-4)
        assert not weights[SIZE**DEPTH :].any()
    decode = functools.partial(
        jaxdec.generate,
        params=beam_twin.PARAMS,
        prompt=np.array([[1, 2], [3, 0], [5, 5], [2, 1]]),
        rng=11,
        lengths=[2, 1, 2, 2],
        max_new_tokens=[12, 9, 20, 3],
        temperature=[1.0, 0.5, 1.5, 0.0],
        eos=(0,),
    )
    one = decode(search.stochastic_beams(beam_twin.MODEL))
    plain = decode(jaxdec.autoregressive(beam_twin.MODEL))
    np.testing.assert_array_equal(one.tokens, plain.tokens)
    np.testing.assert_array_equal(one.codes, plain.codes)
