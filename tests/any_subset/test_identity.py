"""Random visible sets, random orders, all widths: the tokens of sequential decoding, and never more forwards."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import any_subset
from jaxdec.testing import oracles

pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB, BATCH, LENGTH = 5, 8, 30
MODEL, PARAMS = oracles.hash_oracle(VOCAB, seed=4, scale=1.5)
FORMS = {
    "assd": lambda width: any_subset.assd(MODEL, width=width),
    "ngram": lambda width: any_subset.assd(MODEL, width=width, draft="ngram"),
    "fused": lambda width: any_subset.fused(MODEL, width=width),
    "assd tree": lambda width: any_subset.assd(MODEL, width=width, nodes=width + 3),
    "fused tree": lambda width: any_subset.fused(MODEL, width=width, nodes=2 * width, outcomes=3),
}
EXACT_LAW = jaxdec.verifiers.TokenRatio()
RULED = {
    "assd": lambda width: any_subset.assd(MODEL, width=width, verifier=EXACT_LAW, bonus=False),
    "fused": lambda width: any_subset.fused(MODEL, width=width, verifier=EXACT_LAW),
}


def requests(length=LENGTH, vocab_size=VOCAB):
    """Ragged rows, from one gap to one visible token; half of them in a random order."""
    generator = np.random.default_rng(3)
    sizes = generator.integers(2, length + 1, BATCH)
    sizes[:2] = length
    tokens = generator.integers(0, vocab_size, (BATCH, length))
    visible = np.zeros((BATCH, length), bool)
    ranks = np.zeros((BATCH, length), int)
    shown = [1, sizes[1] - 1, *(generator.integers(1, size) for size in sizes[2:])]
    for row, (size, count) in enumerate(zip(sizes, shown, strict=True)):
        visible[row, generator.permutation(size)[:count]] = True
        rest = np.flatnonzero(~visible[row, :size])
        rest = generator.permutation(rest) if row % 2 else rest
        ranks[row, np.concatenate([np.flatnonzero(visible[row, :size]), rest])] = np.arange(size)
    return tokens, visible, dict(sizes=sizes, ranks=ranks)


def fill(decoder, requests, params=PARAMS, **knobs):
    tokens, visible, rest = requests
    knobs = {"temperature": 0.9, **knobs}
    return jaxdec.infill(
        decoder, {"target": params}, tokens, visible, rng=jax.random.key(5), **rest, **knobs
    )


def masked(requests):
    return requests[2]["sizes"] - requests[1].sum(1)


@pytest.fixture(scope="module")
def sequential():
    return fill(jaxdec.autoregressive(MODEL), requests())


@pytest.mark.parametrize(
    ("form", "width"),
    [(form, width) for form in ("assd", "fused") for width in (2, 3, 5, 8)]
    + [(form, width) for form in FORMS if form not in ("assd", "fused") for width in (3, 8)],
)
def test_tokens_are_those_of_sequential_decoding(form, width, sequential):
    result = fill(FORMS[form](width), requests())
    np.testing.assert_array_equal(result.tokens, sequential.tokens)
    np.testing.assert_allclose(result.log_probs, sequential.log_probs, atol=1e-5)
    forwards = np.asarray(result.stats.target_forwards)
    assert (forwards <= masked(requests())).all()
    assert forwards.sum() < masked(requests()).sum()


@pytest.mark.parametrize(("form", "more"), [("assd", 1), ("fused", 0)])
def test_a_stop_costs_one_forward_at_most(form, more):
    """The second of two forwards may be for nothing where the first draft ends the row."""
    result = fill(FORMS[form](3), requests(), eos=[0, 2])
    new = np.asarray(result.known).sum(1) - requests()[1].sum(1)
    excess = np.asarray(result.stats.target_forwards) - new
    assert jaxdec.Status.EOS in result.status and excess.max() == more


@pytest.mark.parametrize("form", RULED)
def test_the_ratio_rule_takes_no_more_forwards_than_tokens(form):
    for width in (2, 8):
        result = fill(RULED[form](width), requests())
        assert (np.asarray(result.stats.target_forwards) <= masked(requests())).all()
        assert (np.asarray(result.known).sum(1) == requests()[2]["sizes"]).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_consistent_model(form):
    """The joint oracle: every conditional belongs to one law."""
    model, params = oracles.joint_oracle(3, 5, seed=1)
    small = requests(5, 3)
    make = {
        "assd": lambda: any_subset.assd(model, width=3),
        "ngram": lambda: any_subset.assd(model, width=3, draft="ngram"),
        "fused": lambda: any_subset.fused(model, width=3),
        "assd tree": lambda: any_subset.assd(model, width=3, nodes=5),
        "fused tree": lambda: any_subset.fused(model, width=3, nodes=5),
    }[form]
    expected = fill(jaxdec.autoregressive(model), small, params)
    np.testing.assert_array_equal(fill(make(), small, params).tokens, expected.tokens)


def test_self_drafts_accept_their_first_token():
    result = fill(any_subset.assd(MODEL, width=2, bonus=False), requests())
    # Two forwards give two tokens or more; the last one alone takes one.
    assert (np.asarray(result.stats.target_forwards) <= masked(requests())).all()
    assert (2 * np.asarray(result.stats.accepted) >= masked(requests())).all()


def test_joint_log_probability_is_that_of_sequential_decoding(sequential):
    _, visible, rest = requests()
    order = any_subset.fixed_order(rest["ranks"], visible, rest["sizes"])
    filled = jnp.asarray(sequential.tokens)
    terms = any_subset.log_prob(MODEL, PARAMS, filled, order)
    np.testing.assert_allclose(terms, sequential.raw_log_probs, atol=1e-4)
    warp = jaxdec.Warp(temperature=0.9).validate(BATCH, VOCAB)
    terms = any_subset.log_prob(MODEL, PARAMS, filled, order, warp)
    np.testing.assert_allclose(terms, sequential.log_probs, atol=1e-4)


def test_masked_positions_alone_are_asked_about(sequential):
    """A model that takes a row a query, such as `masked_rows`, would pay for the others."""
    asked = []

    def forward(params, inputs, cache=None):
        asked.append(inputs.queries.positions.shape[1])
        return MODEL.forward(params, inputs, cache)

    model = dataclasses.replace(MODEL, forward=forward)
    visible = np.ones((2, LENGTH), bool)
    visible[0, 3:6] = visible[1, 20:25] = False
    tokens, order = jnp.asarray(sequential.tokens[:2]), any_subset.lattice(visible)
    terms = any_subset.log_prob(model, PARAMS, tokens, order)
    assert asked == [2, 8]  # the check of the parameters, then five in one row
    np.testing.assert_array_equal(np.asarray(terms) != 0, ~visible)
    traced = jax.jit(lambda order: any_subset.log_prob(model, PARAMS, tokens, order))(order)
    assert asked == [2, 8, LENGTH]
    np.testing.assert_allclose(terms, traced, rtol=1e-6)


def test_the_joint_law_sums_to_one():
    """Over all fillings of three gaps, whatever the order, and however inconsistent the model."""
    places = np.indices((VOCAB,) * 3).reshape(3, -1).T
    tokens = np.full((len(places), 5), 2)
    tokens[:, [0, 3, 4]] = places
    visible = np.zeros_like(tokens, bool)
    visible[:, [1, 2]] = True
    ranks = np.broadcast_to([4, 0, 1, 2, 3], tokens.shape)
    order = any_subset.fixed_order(ranks, visible)
    total = np.exp(any_subset.log_prob(MODEL, PARAMS, jnp.asarray(tokens), order).sum(1)).sum()
    assert total == pytest.approx(1, abs=1e-5)


def test_parallel_sampling_needs_fewer_forwards_and_has_another_law(sequential):
    result = fill(any_subset.parallel_sampling(MODEL, width=4), requests())
    count = masked(requests())
    np.testing.assert_array_equal(result.stats.target_forwards, -(-count // 4))
    assert (np.asarray(result.tokens) != np.asarray(sequential.tokens)).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: any_subset.assd(MODEL, width=1), "width must be at least 2, got 1"),
        (lambda: any_subset.assd(MODEL, width=1, draft="ngram"), "width must be at least 2"),
        (
            lambda: any_subset.assd(MODEL, draft="x"),
            "draft must be .self., or .ngram. without nodes, got .x.",
        ),
        (lambda: any_subset.fused(MODEL, width=1), "width must be at least 2, got 1"),
        (lambda: any_subset.fused(MODEL, width=3, outcomes=5), "outcomes must lie in 1 to 4"),
        (lambda: any_subset.fused(MODEL, width=3, nodes=2), "depth 3 has at least 3 nodes, got 2"),
        (lambda: any_subset.assd(MODEL, width=2, nodes=9), "with 4 candidates has at most 5 nodes"),
        (lambda: any_subset.assd(MODEL, draft="ngram", nodes=8), "got 'ngram' and nodes 8"),
        (
            lambda: any_subset.fused(MODEL, nodes=5, verifier=EXACT_LAW),
            "verifies chains, but the drafter proposes trees of 5 nodes",
        ),
        (lambda: any_subset.parallel_sampling(MODEL, width=0), "width must be at least 1, got 0"),
    ],
)
def test_impossible_forms(make, message):
    with pytest.raises(ValueError, match=message):
        make()
