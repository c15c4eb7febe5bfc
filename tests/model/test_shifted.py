"""Canvas models whose rows predict one position ahead: each law at its place, or none."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import visibility
from jaxdec.model import Inputs, canvas_model, next_token, shifted, unshifted
from jaxdec.testing import check_model, oracles

pytestmark = pytest.mark.usefixtures("quick_compilation")

MASK = 7
ORACLE, TABLE = oracles.hash_oracle(MASK)
AHEAD = oracles.canvas(ORACLE, lead=1)
"""Row i is the law of position i + 1."""
TOKENS = np.random.default_rng(0).integers(0, MASK + 1, (2, 9))


def inputs(positions, spans, tokens=TOKENS):
    positions = jnp.asarray(np.broadcast_to(positions, tokens.shape), jnp.int32)
    return Inputs(jnp.asarray(tokens, jnp.int32), positions, *spans(positions))


@pytest.mark.parametrize("block", [3, 9])
def test_a_law_is_that_of_the_row_before_with_its_own_span(block):
    """So the first position of a block sees nothing of the block; position 0 reads its own row."""
    whole = inputs(np.arange(9), lambda at: visibility.block_causal(at // block))
    network, moved = (model(TABLE, whole) for model in (AHEAD, shifted(AHEAD)))
    np.testing.assert_array_equal(moved.logits[:, 1:], network.logits[:, :-1])
    np.testing.assert_array_equal(moved.logits[:, 0], network.logits[:, 0])
    np.testing.assert_array_equal(moved.hidden[:, 1:], network.hidden[:, :-1])
    other = dataclasses.replace(whole, tokens=whole.tokens.at[:, 3:].set(0))
    again = shifted(AHEAD)(TABLE, other).logits
    assert (again[:, 3] == moved.logits[:, 3]).all() == (block == 3)


def test_in_place_it_is_the_model_that_predicts_at_each_place():
    whole = inputs(np.arange(9), visibility.full)
    plain = oracles.canvas(ORACLE)(TABLE, whole).logits
    np.testing.assert_array_equal(shifted(AHEAD)(TABLE, whole).logits[:, 1:], plain[:, 1:])


def test_the_row_before_may_stand_anywhere_if_it_is_named():
    order = np.random.default_rng(1).permutation(9)
    where = np.argsort(order)  # of each position
    whole = inputs(np.arange(9), visibility.full)
    mixed = inputs(order, visibility.full, TOKENS[:, order])
    before = np.where(order > 0, where[np.maximum(order - 1, 0)], where[0])
    named = dataclasses.replace(mixed, before=jnp.asarray(np.stack([before] * 2), jnp.int32))
    expected = shifted(AHEAD)(TABLE, whole).logits[:, order]
    np.testing.assert_array_equal(shifted(AHEAD)(TABLE, named).logits, expected)


def test_a_law_whose_row_is_not_computed_is_no_number():
    part = inputs([2, 3, 4, 6, 0, 1, 9, 8, 9], visibility.full)
    missing = np.isnan(shifted(AHEAD)(TABLE, part).logits).all(-1)
    assert missing.tolist() == [[True, False, False, True, False, False, True, True, False]] * 2
    named = dataclasses.replace(part, before=jnp.full(TOKENS.shape, -1, jnp.int32).at[:, 3].set(0))
    found = np.isnan(shifted(AHEAD)(TABLE, named).logits).all(-1)
    assert np.flatnonzero(~found[0]).tolist() == [3]


def test_what_cannot_be_shifted():
    model = shifted(AHEAD)
    assert unshifted(model) == AHEAD and unshifted(AHEAD) == AHEAD
    assert model == shifted(oracles.canvas(ORACLE, lead=1)) and hash(model) == hash(shifted(AHEAD))
    for wrong, message in (
        (lambda: shifted(model), "shifted already"),
        (lambda: shifted(ORACLE), "answers queries; only a canvas model"),
        (lambda: next_token(model), "need no masks"),
        (lambda: canvas_model(AHEAD, 9), "outside the vocabulary"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


@pytest.mark.slow
def test_checks_of_models_take_it():
    check_model(shifted(AHEAD), TABLE)
