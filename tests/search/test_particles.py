"""Particles: schemes that are unbiased, evidence that is, and limits at which a filter is plain sampling."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import search
from jaxdec.search import particles, resampling
from jaxdec.testing import oracles

WEIGHTS = [
    np.array([0.5, 0.3, 0.15, 0.05]),
    np.array([0.25, 0.25, 0.25, 0.25]),
    np.array([0.0, 0.7, 0.0, 0.3]),
    np.array([0.0, 0.0, 1.0, 0.0]),
]


def law_of_systematic(weights):
    """Each outcome of systematic resampling with its probability: it is constant between the bounds of u."""
    size = len(weights)
    bounds = np.unique(np.concatenate([[0.0, 1.0], (size * np.cumsum(weights)) % 1]))
    bounds = bounds[(bounds >= 0) & (bounds <= 1)]
    for low, high in itertools.pairwise(bounds):
        if high - low < 1e-12:
            continue
        points = (np.arange(size) + (low + high) / 2) / size
        yield np.asarray(resampling._at(jnp.asarray(weights), jnp.asarray(points))), high - low


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_systematic_resampling_is_unbiased(weights):
    expected = np.zeros(len(weights))
    for ancestors, mass in law_of_systematic(weights):
        counts = np.bincount(ancestors, minlength=len(weights))
        assert (counts >= np.floor(4 * weights - 1e-9)).all()
        assert (counts <= np.ceil(4 * weights + 1e-9)).all()
        expected += mass * counts
    np.testing.assert_allclose(expected, 4 * weights, atol=1e-9)


@pytest.mark.parametrize("scheme", resampling.SCHEMES)
def test_schemes_give_the_successors_that_weights_ask_for(scheme):
    draws = 4000
    keys = jax.random.split(jax.random.key(2), draws)
    many = jax.jit(jax.vmap(resampling.SCHEMES[scheme], (0, None)))
    for weights in WEIGHTS:
        found = np.asarray(many(keys, jnp.asarray(weights, jnp.float32)))
        counts = np.stack([(found == h).sum(1) for h in range(4)], 1)
        if scheme != "multinomial":  # at most the one that is drawn beside the certain ones
            assert (counts[:, weights == 0] == 0).all()
        if scheme == "residual":
            assert (counts >= np.floor(4 * weights)).all()
        # The variance of a count is at most that of four draws: five standard errors.
        error = 5 * np.sqrt(4 * weights * (1 - weights) / draws) + 1e-9
        assert (np.abs(counts.mean(0) - 4 * weights) <= error).all()


def exact(first, second, potential, weights):
    """The mass of the target: all texts of two tokens with their probabilities, potentials and weights."""
    total = 0.0
    for x, y in itertools.product(range(2), repeat=2):
        mass = first[x] * weights[0][x] * second[x, y] * weights[1][x, y]
        total += mass * np.exp(potential[1][x, y])
    return total


@pytest.mark.parametrize("threshold", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("scheme", ["multinomial", "systematic"])
def test_evidence_is_unbiased(threshold, scheme):
    """Two particles of two tokens, every draw enumerated: the mean estimate is the mass of the target."""
    rng = np.random.default_rng(1)
    first, second = rng.dirichlet([1, 1]), rng.dirichlet([1, 1], size=2)
    potential = rng.normal(size=2), rng.normal(size=(2, 2))
    potential[1][1, 0] = -np.inf
    step = rng.uniform(0.2, 2, size=2), rng.uniform(0.2, 2, size=(2, 2))
    with jax.enable_x64(True):
        estimate = 0.0
        for pair in itertools.product(range(2), repeat=2):
            mass = np.prod(first[list(pair)])
            weights = np.log(step[0][list(pair)])
            scores = potential[0][list(pair)]
            weights = np.asarray(particles.weighed(weights, np.zeros(2), scores))
            few = bool(particles.is_few(weights, np.array([threshold]))[0])
            for ancestors, chance in resampled(weights, few, scheme):
                past = np.array(pair)[ancestors]
                carried = np.asarray(particles.mean_weight(weights)) if few else weights
                carried = np.broadcast_to(carried, (2,))
                for new in itertools.product(range(2), repeat=2):
                    also = np.prod(second[past, list(new)])
                    final = carried + np.log(step[1][past, list(new)])
                    before, after = potential[0][past], potential[1][past, list(new)]
                    final = np.asarray(particles.weighed(final, before, after))
                    evidence = np.exp(final).mean()
                    estimate += mass * chance * also * evidence
    wanted = exact(first, second, potential, step)
    assert abs(estimate / wanted - 1) < 1e-9


def resampled(weights, few, scheme):
    if not few:
        return [(np.arange(2), 1.0)]
    share = np.exp(weights - np.logaddexp(*weights))
    if scheme == "systematic":
        return list(law_of_systematic(share))
    every = itertools.product(range(2), repeat=2)
    return [(np.array(a), float(np.prod(share[list(a)]))) for a in every]


VOCAB = 4
MODEL, TABLE = oracles.hash_oracle(VOCAB, seed=8)
PARAMS = {"target": TABLE}
PLAIN = jaxdec.autoregressive(MODEL)


def no_threes(tokens, prompt_length, length):
    """A constraint that sees a token late: the log-potential of a text without twos, halved by every one."""
    place = jnp.arange(tokens.shape[1])
    new = (place >= prompt_length[:, None]) & (place < length[:, None])
    twos = ((tokens == 2) & new).sum(1)
    return jnp.where(twos > 1, -jnp.inf, jnp.log(0.5) * twos)


def mass(prompt, steps):
    """The mass of the target under the model, by enumeration."""
    law = jax.jit(lambda t: jax.nn.log_softmax(MODEL(TABLE, jaxdec.Inputs.causal(t), None).logits))
    texts = np.array([[*prompt, *new] for new in itertools.product(range(VOCAB), repeat=steps)])
    log_probs = np.asarray(law(jnp.asarray(texts, jnp.int32)), np.float64)
    total = np.zeros(len(texts))
    for at in range(len(prompt), texts.shape[1]):
        total += log_probs[np.arange(len(texts)), at - 1, texts[:, at]]
    twos = (texts[:, len(prompt) :] == 2).sum(1)
    return (np.exp(total) * 0.5**twos * (twos <= 1)).sum()


def test_the_sampler_finds_the_evidence():
    """Four standard errors of 2,000 populations: one in 16,000 seeds would fail."""
    count, prompt = 2000, (1, 3)
    decoder = search.smc(PLAIN, potential=search.scorers.of_tokens(no_threes))
    found = jaxdec.generate(
        decoder,
        PARAMS,
        np.tile(prompt, (count, 1)),
        rng=3,
        max_new_tokens=4,
        hypotheses=3,
        ess_threshold=0.9,
        eos=(),
    )
    assert (np.asarray(found.pool.moves) > 0).mean() > 0.1
    estimates = np.exp(np.asarray(found.pool.log_evidence(3), np.float64))
    error = estimates.std() / np.sqrt(count)
    assert abs(estimates.mean() - mass(prompt, 4)) < 4 * error
    # A control: the mass without the potentials is 1, far from it.
    assert mass(prompt, 4) + 10 * error < 1


def constant(tokens, prompt_length, length):
    return jnp.zeros(len(tokens))


def test_limits():
    ask = dict(rng=1, max_new_tokens=12, eos=(0,))
    prompt = np.array([[1, 2], [3, 1]])
    plain = jaxdec.generate(PLAIN, PARAMS, prompt, hypotheses=4, **ask)
    segment = search.of_length(3)
    reward = search.scorers.of_tokens(constant)
    same = search.particle_filter(PLAIN, reward, segment=segment)
    found = jaxdec.generate(same, PARAMS, prompt, hypotheses=4, **ask)
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    steered = search.smc(PLAIN, potential=search.scorers.of_tokens(no_threes))
    one = jaxdec.generate(steered, PARAMS, prompt, **ask)
    np.testing.assert_array_equal(one.tokens, jaxdec.generate(PLAIN, PARAMS, prompt, **ask).tokens)
    # At temperature 0 all go on from the best, so that all share the past of the last boundary.
    decoder = search.particle_filter(PLAIN, search.scorers.log_prob(), segment=segment)
    best = jaxdec.generate(
        decoder, PARAMS, prompt, hypotheses=4, reward_temperature=0.0, **{**ask, "eos": ()}
    )
    rows = np.asarray(best.tokens).reshape(2, 4, -1)
    assert (rows[:, :, : 2 + 9] == rows[:, :1, : 2 + 9]).all()
    assert (rows[:, :, 11:14] != rows[:, :1, 11:14]).any()
