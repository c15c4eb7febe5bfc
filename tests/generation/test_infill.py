"""`jaxdec.infill`: results by position, and what is refused."""

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec import any_subset
from jaxdec.decoding import Status
from jaxdec.testing import oracles

pytestmark = pytest.mark.usefixtures("quick_compilation")

MODEL, PARAMS = oracles.hash_oracle(6, seed=2)
TOKENS = np.array([[1, 0, 2, 0, 0, 3], [4, 0, 5, 0, 0, 0]])
VISIBLE = np.array([[1, 0, 1, 0, 0, 1], [1, 0, 1, 0, 1, 1]], bool)
SIZES = np.array([6, 4])
DECODER = jaxdec.autoregressive(MODEL)


def fill(decoder=DECODER, tokens=TOKENS, visible=VISIBLE, **options):
    options = {"sizes": SIZES, "rng": jax.random.key(0), **options}
    return jaxdec.infill(decoder, {"target": PARAMS}, tokens, visible, **options)


def test_results_lie_by_position():
    result = fill()
    inside = np.arange(6) < SIZES[:, None]
    tokens = np.asarray(result.tokens)
    np.testing.assert_array_equal(tokens[VISIBLE & inside], TOKENS[VISIBLE & inside])
    np.testing.assert_array_equal(result.known, inside)
    assert np.asarray(result.ranks).tolist() == [[0, 3, 1, 4, 5, 2], [0, 2, 1, 3, -1, -1]]
    assert (tokens[~inside] == 0).all()
    gaps = ~VISIBLE & inside
    assert (np.asarray(result.log_probs)[gaps] < 0).all()
    assert (np.asarray(result.log_probs)[~gaps] == 0).all()
    assert result.status == [Status.LENGTH, Status.LENGTH]
    np.testing.assert_array_equal(result.stats.target_forwards, gaps.sum(1))


def test_what_stands_in_gaps_and_past_the_end_is_not_read():
    other = np.where(VISIBLE & (np.arange(6) < SIZES[:, None]), TOKENS, 5)
    np.testing.assert_array_equal(fill().tokens, fill(tokens=other).tokens)
    np.testing.assert_array_equal(
        fill().tokens,
        fill(tokens=np.where(other == 5, -1, other) * (other != 5) + 5 * (TOKENS == 5)).tokens,
    )


def test_an_order_of_the_callers_own():
    ranks = np.array([[0, 5, 1, 4, 3, 2], [0, 3, 1, 2, 0, 0]])
    result = fill(ranks=ranks)
    assert np.asarray(result.ranks).tolist() == [[0, 5, 1, 4, 3, 2], [0, 3, 1, 2, -1, -1]]
    assert (np.asarray(result.tokens) != np.asarray(fill().tokens)).any()


def test_an_end_token_leaves_the_rest_unknown():
    first = int(fill().tokens[0, 1])
    result = fill(eos=[first])
    assert result.status[0] is Status.EOS
    assert np.asarray(result.known)[0].tolist() == [True, True, True, False, False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(visible=np.ones((2, 6), bool)), "row 0 has no masked position"),
        (dict(visible=np.zeros((2, 6), bool)), "row 0 has no visible position"),
        (
            dict(visible=VISIBLE[:1]),
            r"visible must have the shape \[2, 6\] of tokens, got \[1, 6\]",
        ),
        (dict(tokens=TOKENS / 2), r"tokens must be integers of shape \[B, L\], got float64"),
        (dict(tokens=TOKENS[0]), r"tokens must be integers of shape \[B, L\]"),
        (dict(tokens=TOKENS + 9), "outside the vocabulary of 6"),
        (dict(ranks=np.zeros((2, 6), int)), "row 0 are not a permutation of 0 to 5"),
        (dict(sizes=[6, 7]), "row 1 has 7 positions"),
        (dict(temperature=-1.0), "temperature"),
    ],
)
def test_impossible_requests(options, message):
    with pytest.raises(ValueError, match=message):
        fill(**options)


def test_gaps_longer_than_the_capacity():
    import dataclasses

    short = dataclasses.replace(MODEL, max_length=5)
    with pytest.raises(ValueError, match="a row has 6 positions; the model's capacity is 5"):
        fill(jaxdec.autoregressive(short))


def test_drafters_that_need_gaps_refuse_prompts():
    for decoder in (
        any_subset.assd(MODEL),
        any_subset.fused(MODEL),
        any_subset.parallel_sampling(MODEL),
    ):
        with pytest.raises(ValueError, match=r"use jaxdec\.infill"):
            jaxdec.generate(decoder, {"target": PARAMS}, TOKENS, rng=jax.random.key(0))
