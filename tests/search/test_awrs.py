"""Adaptive weighted rejection sampling: unbiased weights by enumeration, and the laws that they lead to."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import decoding, search
from jaxdec.decoding import Exactness, Status
from jaxdec.generation import prepare
from jaxdec.search.awrs import Awrs, awrs, candidates, geometric_weight, recursive_weight
from jaxdec.testing import oracles
from jaxdec.testing.statistics import g_test
from jaxdec.text import Automaton

LAWS = np.array([[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25], [0.97, 0.02, 0.0, 0.01]])
CONSTRAINTS = np.array(list(itertools.product([False, True], repeat=4)))


def orders(law, size):
    """The first tokens of a Gumbel-top-k order, and how probable they are: draws without replacement."""
    found = []
    for order in itertools.permutations(range(len(law)), size):
        left, probability = 1.0, 1.0
        for token in order:
            # Tokens of no mass come last, in the order of their numbers.
            if law[token] > 0:
                probability *= law[token] / left
            elif left > 1e-12 or token != min(t for t in range(len(law)) if law[t] == 0):
                probability = 0.0
            left -= law[token]
        found.append((order, probability))
    return [order for order, _ in found], np.array([p for _, p in found])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_weights_are_unbiased_token_by_token(size):
    """E[w 1{x = v}] = p_v c_v: three laws, all sixteen constraints, any number of tests; 4 is no limit at all."""
    with jax.enable_x64(True):
        weigh = jax.jit(recursive_weight)
        for law in LAWS:
            order, probability = orders(law, size)
            assert abs(probability.sum() - 1) < 1e-12
            p = law[np.array(order)]  # [M, K]
            tail = np.maximum(1 - p.sum(-1), 0) * (size < len(law))
            with np.errstate(divide="ignore"):
                given = np.log(p)[:, None], np.log(np.where(tail < 1e-12, 0, tail))[:, None]
            accepted = CONSTRAINTS[None, :, :].repeat(len(order), 0)
            accepted = np.take_along_axis(accepted, np.array(order)[:, None], axis=2)
            shape = accepted.shape
            place, log_weight = weigh(
                np.broadcast_to(given[0], shape), accepted, np.broadcast_to(given[1], shape[:2])
            )
            assert log_weight.dtype == np.float64
            token = np.take_along_axis(np.array(order)[:, None].repeat(16, 1), place[..., None], 2)
            weight = np.exp(log_weight) * probability[:, None]
            for v in range(4):
                mean = np.where(token[..., 0] == v, weight, 0).sum(0)
                np.testing.assert_allclose(mean, law[v] * CONSTRAINTS[:, v], rtol=0, atol=1e-12)
            everything = np.exp(log_weight[:, -1])
            if size > 1:
                np.testing.assert_allclose(everything[probability > 0], 1, atol=1e-12)


def runs(mass, most_accepts, most_rejects):
    """How independent draws end: accepted, rejected, and how probably."""
    found = [
        (most_accepts, r, math.comb(most_accepts - 1 + r, r) * mass**most_accepts * (1 - mass) ** r)
        for r in range(most_rejects)
    ]
    return found + [
        (a, most_rejects, math.comb(a + most_rejects - 1, a) * mass**a * (1 - mass) ** most_rejects)
        for a in range(most_accepts)
    ]


def test_the_geometric_weight_is_the_mass_on_average_and_varies_less_with_more_draws():
    cases = list(itertools.product((0.9, 0.3, 0.02, 1.0), (2, 3, 7, 60), (2, 3, 5)))
    rows = [(*run, case) for case in cases for run in runs(case[0], case[2], case[1])]
    accepted, rejected, probability, of = map(list, zip(*rows, strict=True))
    most = np.array([case[2] for case in of])
    with jax.enable_x64(True):
        log_weight = jax.jit(geometric_weight)(np.array(accepted), np.array(rejected), most)
    every, variances = np.exp(log_weight), {}
    for case in cases:
        here = np.array([own == case for own in of])
        weight, p = every[here], np.array(probability)[here]
        assert abs(p.sum() - 1) < 1e-12
        assert abs((weight * p).sum() - case[0]) < 1e-12, case
        variances[case] = (weight**2 * p).sum() - case[0] ** 2
        if case[0] == 1.0:
            assert (weight[p > 0] == 1).all()
    for mass, rejects, _ in cases:
        few, some, many = (variances[mass, rejects, draws] for draws in (2, 3, 5))
        assert few > some > many or mass == 1.0, (mass, rejects)


@pytest.mark.parametrize("accepts", [2, 3])
def test_drawn_tokens_and_weights_have_their_expectations(accepts):
    """The sampler itself, with phantom draws in place of tokens that would be tested again."""
    rows, most = 60_000, 2
    law = np.array([0.1, 0.4, 0.2, 0.3])
    allowed = np.array([True, False, True, False])
    oracle = lambda settings, rows, tokens: jnp.asarray(allowed)[tokens]
    decoder = Awrs(None, max_rejects=most, max_accepts=accepts, oracle=oracle)
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(law, jnp.float32)), (rows, 4))
    keys = jax.random.split(jax.random.key(3), rows)

    @jax.jit
    def draw(logits, keys):
        request = decoding.Request(
            jnp.zeros((rows, 1), jnp.int32), jnp.ones((rows,), jnp.int32),
            decoding.Settings(jaxdec.Warp(), jnp.ones((rows,), jnp.int32), decoding.Stops.create()),
            capacity=4,
        )  # fmt: skip
        drawn = decoder.draw(request.settings, decoding.Rows.start(request, 4), logits, keys)
        return drawn.token, jnp.exp(drawn.own["log_weight"])

    token, weight = map(np.asarray, draw(logits, keys))
    for v in range(4):
        each = np.where(token == v, weight, 0)
        error = 4 * each.std() / math.sqrt(rows)
        assert abs(each.mean() - law[v] * allowed[v]) <= error, (v, each.mean(), error)
    assert (weight == 0).any() and len(np.unique(weight.round(5))) > 2


V, EOS = 4, 3
MODEL, TARGET = oracles.hash_oracle(V, seed=8, scale=1.2, eos=(EOS,))
PARAMS = {"target": TARGET}
LENGTH = 3


def _step(state, token):
    """As many tokens 1 as tokens 0, of which there is at least one, and no token 2 but at the beginning."""
    ones, zeros, first = state
    if token == 2:
        return (0, 0, False) if first else None
    return (ones + (token == 1), zeros + (token == 0), False)


EVEN = Automaton.explore(
    (0, 0, True),
    lambda state, token: None if token == EOS or sum(state[:2]) > 3 else _step(state, token),
    lambda state: state[0] == state[1] > 0,
    V,
)


def laws(prompt):
    """The law of accepted texts under local masking, and the law of the model given that a text is accepted."""
    words = [w for n in range(LENGTH + 1) for w in itertools.product(range(3), repeat=n)]
    log_law = {}

    def conditional(words):
        """Laws of the next token after each of some texts of one length."""
        given = np.array([[*prompt, *w] for w in words])
        inputs = jaxdec.Inputs.causal(jnp.asarray(given, jnp.int32))
        return jax.nn.log_softmax(MODEL(TARGET, inputs, None).logits[:, -1])

    for size in range(LENGTH):
        some = [w for w in words if len(w) == size]
        for w, law in zip(some, np.asarray(conditional(some), np.float64), strict=True):
            log_law[w] = law
    local, exact = {}, {}
    texts = [
        [(w, False) for w in words if len(w) == LENGTH],
        [(w, True) for w in words if len(w) < LENGTH],
    ]
    for w, ended in itertools.chain(*texts):
        if not EVEN.accepts(w):
            continue
        masked, whole = 0.0, 0.0
        for i, token in enumerate([*w, *[EOS] * ended]):
            law, state, left = log_law[w[:i]], EVEN.after(w[:i]), LENGTH - i - 1
            legal = [
                v for v in range(3)
                if EVEN.next[state, v] and EVEN.shortest[EVEN.next[state, v]] <= left
            ] + [EOS] * bool(EVEN.accepting[state])  # fmt: skip
            assert token in legal
            masked += law[token] - np.log(np.exp(law[legal]).sum())
            whole += law[token]
        local[w], exact[w] = np.exp(masked), np.exp(whole)
    mass = sum(exact.values())
    return local, {w: p / mass for w, p in exact.items()}, mass


def sampled(decoder, prompt, rows, **more):
    """Texts and log weights of many rows, and why they ended."""
    request = prepare(
        decoder,
        PARAMS,
        np.repeat([prompt], rows, 0),
        max_new_tokens=LENGTH,
        constraint=EVEN,
        **more,
    )
    state = decoding.init(decoder, PARAMS, request)
    total = np.zeros(rows)
    for after, info in decoding.stream(decoder, PARAMS, state, 5):
        if info.own is not None:
            total = total + np.asarray(info.own["log_weight"])
        tokens, lengths, codes = map(
            np.asarray, (after.rows.tokens, after.rows.length, after.rows.status)
        )
    start = len(prompt)
    texts = [
        tuple(t for t in row[start:n] if t != EOS) for row, n in zip(tokens, lengths, strict=True)
    ]
    return texts, total, codes


def test_local_masking_is_not_the_conditional_law_and_weights_make_it_so(quick_compilation):
    prompt, rows = (1, 2), 1 << 13
    local, exact, mass = laws(prompt)
    assert abs(sum(local.values()) - 1) < 1e-12  # no dead ends
    distance = 0.5 * sum(abs(local[w] - exact[w]) for w in exact)
    assert distance > 0.1, distance
    words = sorted(exact)
    counts = lambda texts: np.array([texts.count(w) for w in words])
    texts, _, _ = sampled(jaxdec.autoregressive(MODEL), prompt, rows)
    assert set(texts) <= set(words)
    p_value = lambda law: g_test(counts(texts), np.array([law[w] for w in words]))
    assert p_value(local) > 1e-3 > p_value(exact)
    again, log_weights, codes = sampled(awrs(MODEL, max_rejects=2), prompt, rows)
    weights = np.exp(log_weights)
    assert ((weights == 0) == (codes == Status.NONFINITE)).all()
    check_mean(weights, mass)  # the evidence
    for w in words:
        check_mean(np.where([t == w for t in again], weights, 0), mass * exact[w])


def check_mean(values, expected):
    """Within four standard errors, for fixed seeds."""
    error = 4 * values.std() / math.sqrt(len(values))
    assert abs(values.mean() - expected) < error, (values.mean(), expected, error)


def test_particles_of_weighted_rows_have_the_conditional_law(quick_compilation):
    """Sequential Monte Carlo: the mean weight is the mass of accepted texts, and its share of a text is the text's."""
    prompt, prompts, particles = (1, 2), 512, 8
    _, exact, mass = laws(prompt)
    result = jaxdec.generate(
        search.smc(awrs(MODEL, max_rejects=4)), PARAMS, np.repeat([prompt], prompts, 0), rng=3,
        hypotheses=particles, max_new_tokens=LENGTH, constraint=EVEN,
    )  # fmt: skip
    weights = np.exp(np.asarray(result.pool.log_weights, np.float64)).reshape(prompts, particles)
    check_mean(weights.mean(1), mass)
    rows = zip(np.asarray(result.tokens), np.asarray(result.lengths), strict=True)
    texts = [tuple(t for t in row[len(prompt) : n] if t != EOS) for row, n in rows]
    assert set(texts) == set(exact)
    for w, law in exact.items():
        here = np.reshape([t == w for t in texts], weights.shape)
        check_mean((weights * here).mean(1), mass * law)


def test_tokens_are_those_of_local_masking(quick_compilation):
    """With the same key, where enough tokens are tested; weights of an improper sampler are 1."""
    heat = dict(temperature=np.where(np.arange(256) % 8, 1.0, 0.0))
    masked, _, _ = sampled(jaxdec.autoregressive(MODEL), (1, 2), 256, **heat)
    for proper in (True, False):
        decoder = awrs(MODEL, max_rejects=99, proper=proper)
        texts, log_weights, _ = sampled(decoder, (1, 2), 256, **heat)
        assert texts == masked and not log_weights[::8].any()
        assert (log_weights < 0).any() == proper and np.isfinite(log_weights).all()


def test_without_a_constraint_it_is_plain_decoding(quick_compilation):
    assert awrs(MODEL).exactness is Exactness.APPROXIMATE
    given = dict(rng=1, max_new_tokens=8, temperature=[0.0, 1.0, 0.7])
    prompt = np.array([[1, 2]] * 3)
    plain, own = (
        jaxdec.generate(decoder, PARAMS, prompt, **given)
        for decoder in (jaxdec.autoregressive(MODEL), awrs(MODEL))
    )
    np.testing.assert_array_equal(plain.tokens, own.tokens)
    np.testing.assert_array_equal(plain.log_probs, own.log_probs)
    request = prepare(awrs(MODEL), PARAMS, prompt, max_new_tokens=8)
    state = decoding.init(awrs(MODEL), PARAMS, request)
    _, info = next(decoding.stream(awrs(MODEL), PARAMS, state, 1))
    np.testing.assert_allclose(info.own["log_weight"], 0, atol=1e-6)


def test_candidates_come_in_the_order_of_their_keys():
    law = jnp.log(jnp.asarray([LAWS[0], LAWS[2]]))
    order, log_probs, tail = candidates(law, law, 2)
    assert order.tolist() == [[0, 1], [0, 1]] and order.dtype == jnp.int32
    np.testing.assert_allclose(np.exp(log_probs), [[0.4, 0.3], [0.97, 0.02]], rtol=1e-5)
    np.testing.assert_allclose(np.exp(tail), [0.3, 0.01], rtol=1e-5)
    whole = candidates(law, law, 9)
    assert whole[0].shape == (2, 4) and np.isneginf(np.asarray(whole[2])).all()


def test_impossible_settings():
    for more, message in (
        (dict(max_rejects=0), "max_rejects must be at least 1, got 0"),
        (dict(max_accepts=1), "max_accepts must be at least 2, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            awrs(MODEL, **more)
