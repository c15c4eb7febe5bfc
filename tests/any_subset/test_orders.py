"""Orders of generation, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdec import any_subset, visibility

pytestmark = pytest.mark.usefixtures("quick_compilation")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=12).filter(lambda v: any(v) and not all(v)))
def test_lattice_order(visible):
    visible = np.array([visible])
    order = any_subset.lattice(visible)
    places = np.asarray(order.places)[0]
    shown = int(order.visible[0])
    assert places[:shown].tolist() == np.flatnonzero(visible[0]).tolist()
    assert places[shown:].tolist() == np.flatnonzero(~visible[0]).tolist()
    ranks = np.asarray(any_subset.lattice_ranks(visible))[0]
    np.testing.assert_array_equal(places[ranks], np.arange(len(ranks)))
    same = any_subset.fixed_order(ranks[None], visible)
    np.testing.assert_array_equal(same.places, order.places)


def test_positions_past_the_end_are_left_out():
    visible = np.array([[True, False, True, True], [False, True, False, False]])
    order = any_subset.lattice(visible, [3, 4])
    assert np.asarray(order.places)[0, :3].tolist() == [0, 2, 1]
    assert np.asarray(order.visible).tolist() == [2, 1]
    ranks = np.array([[0, 4, 7, 9]] * 2)
    assert np.asarray(order.at(ranks)).tolist() == [[0, 1, 1, 1], [1, 3, 3, 3]]


def test_two_stream_spans_are_the_masks_of_the_paper():
    """Content i sees j iff rank_j <= rank_i, or both are visible; a query sees the lower ranks, and nobody a query."""
    ranks, shown = np.array([[3, 0, 1, 4, 2]]), 2
    content, query = visibility.two_stream(ranks, shown)
    lower = ranks[0][None, :] < ranks[0][:, None]
    both = (ranks[0][None, :] < shown) & (ranks[0][:, None] < shown)
    eye = np.eye(5, dtype=bool)
    np.testing.assert_array_equal(
        visibility.dense(content.query_spans, content.key_spans)[0], lower | both | eye
    )
    np.testing.assert_array_equal(visibility.dense(query.query_spans, content.key_spans)[0], lower)
    assert not visibility.dense(content.query_spans, query.key_spans).any()
    assert not visibility.dense(query.query_spans, query.key_spans).any()


@pytest.mark.parametrize(
    ("ranks", "visible", "message"),
    [
        ([[0, 1, 1]], [[True, False, False]], r"row 0 are not a permutation of 0 to 2"),
        ([[0, 1, 3]], [[True, False, False]], r"row 0 are not a permutation of 0 to 2"),
        ([[2, 0, 1]], [[True, False, False]], r"position 0 of row 0 is visible but has rank 2"),
        ([[0.0, 1, 2]], [[True, False, False]], r"ranks must be integers of shape \[1, 3\]"),
        ([[0, 1]], [[True, False, False]], r"ranks must be integers of shape \[1, 3\]"),
        ([[0, 1, 2]], [[True, True, True]], r"row 0 has no masked position: all 3 are visible"),
        ([[0, 1, 2]], [[False, False, False]], r"row 0 has no visible position among 3"),
        ([[0, 1, 2]], [[1, 0, 0]], r"visible must be bool \[B, L\]"),
    ],
)
def test_impossible_orders(ranks, visible, message):
    with pytest.raises(ValueError, match=message):
        any_subset.fixed_order(np.array(ranks), np.array(visible))


def test_impossible_sizes():
    visible = np.array([[True, False, True]])
    for sizes, message in [
        ([4], "row 0 has 4 positions; 1 to 3"),
        ([0], "row 0 has 0 positions"),
        ([1, 2], r"sizes must have shape \[1\], got \[2\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            any_subset.lattice(visible, sizes)
