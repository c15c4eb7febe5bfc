"""Spans against masks written out with loops."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdec import visibility
from jaxdec.visibility import EMPTY, FOREVER

tree, dense = jax.jit(visibility.tree), jax.jit(visibility.dense)
causal = jax.jit(visibility.causal)

POSITIONS = np.array([[0, 1, 2, 3, 4], [7, 3, 9, 3, 0]])  # in order, and shuffled with a tie


def mask(batch, rows, columns, rule):
    out = np.zeros((batch, rows, columns), bool)
    for b in range(batch):
        for i in range(rows):
            for j in range(columns):
                out[b, i, j] = rule(b, i, j)
    return out


def check(spans, rule, keys=None):
    """The spans of `keys` as seen by the queries of `spans`, against `rule(row, query, key)`."""
    key_spans = (spans if keys is None else keys).key_spans
    assert spans.query_spans.dtype == key_spans.dtype == jnp.int32
    shape = (*spans.query_spans.shape[:2], key_spans.shape[1])
    np.testing.assert_array_equal(dense(spans.query_spans, key_spans), mask(*shape, rule))


def not_after(order, i, j):
    return order[j] <= order[i]


def test_causal():
    check(visibility.causal(jnp.asarray(POSITIONS)), lambda b, i, j: not_after(POSITIONS[b], i, j))


def test_full():
    check(visibility.full(jnp.asarray(POSITIONS)), lambda b, i, j: True)


def test_block_causal():
    blocks = np.array([[0, 0, 1, 1, 1], [2, 0, 0, 1, 2]])
    check(visibility.block_causal(jnp.asarray(blocks)), lambda b, i, j: not_after(blocks[b], i, j))


@pytest.mark.parametrize("width", [1, 2, 4, 100])
def test_window(width):
    spans = visibility.window(jnp.asarray(POSITIONS), width)
    check(spans, lambda b, i, j: 0 <= POSITIONS[b][i] - POSITIONS[b][j] < width)


def test_window_must_hold_the_token_itself():
    with pytest.raises(ValueError, match="window width must be at least 1, got 0"):
        visibility.window(jnp.asarray(POSITIONS), 0)


def test_a_hidden_token_is_seen_by_nobody_and_still_looks():
    valid = np.array([[True, True, False, True, False], [False, True, True, True, True]])
    spans = visibility.causal(jnp.asarray(POSITIONS)).where(jnp.asarray(valid))
    check(spans, lambda b, i, j: valid[b][j] and not_after(POSITIONS[b], i, j))


def test_an_empty_span_is_never_seen():
    extremes = np.array([0, -1, 1, FOREVER, -FOREVER, 2**31 - 1, -(2**31)])
    query_spans = np.array([[(lo, hi) for lo in extremes for hi in extremes if lo <= hi]])
    assert not dense(jnp.asarray(query_spans), jnp.asarray(EMPTY)[None, None]).any()
    # An empty slot is not seen by any query that a constructor makes either.
    queries = [visibility.causal(jnp.asarray(POSITIONS)), visibility.full(jnp.asarray(POSITIONS))]
    queries += [visibility.fork_join(jnp.asarray(POSITIONS), jnp.asarray(POSITIONS))]
    queries += [visibility.two_stream(jnp.asarray(POSITIONS))[1]]
    for spans in queries:
        assert not dense(spans.query_spans, jnp.broadcast_to(jnp.asarray(EMPTY), (2, 3, 2))).any()


def descends(parents, node, ancestor):
    while node != -1:
        if node == ancestor:
            return True
        node = parents[node]
    return False


def exists(parents, valid, node):
    return all(valid[n] for n in range(len(parents)) if descends(parents, node, n))


def random_parents(rng, nodes, forest=True):
    low = -1 if forest else 0
    return np.array([-1] + [rng.integers(low, n) for n in range(1, nodes)])


def check_tree(parents, start, valid=None):
    """Rows of parents: nodes see their ancestors, and the committed causal keys before `start`."""
    parents, start = np.asarray(parents), np.asarray(start)
    given = None if valid is None else jnp.asarray(valid)
    spans = tree(jnp.asarray(parents), jnp.asarray(start), given)
    valid = np.ones(parents.shape, bool) if valid is None else valid
    seen = np.asarray(dense(spans.query_spans, spans.key_spans))
    expected = mask(
        *parents.shape,
        parents.shape[1],
        lambda b, i, j: valid[b][j] and descends(parents[b], i, j),
    )
    for b in range(len(parents)):  # what a node that does not exist sees is nobody's concern
        np.testing.assert_array_equal(seen[b][valid[b]], expected[b][valid[b]])
        assert not seen[b][:, ~valid[b]].any()

    places = np.broadcast_to(np.arange(12), (len(start), 12))
    committed = causal(jnp.asarray(places)).where(jnp.asarray(places < start[:, None]))
    seen = np.asarray(dense(spans.query_spans, committed.key_spans))
    np.testing.assert_array_equal(
        seen[valid], np.broadcast_to((places < start[:, None])[:, None], seen.shape)[valid]
    )


@pytest.mark.parametrize("nodes", [1, 2, 4, 8, 15])
def test_trees_and_forests(nodes):
    rng = np.random.default_rng(nodes)
    chain, star = np.arange(nodes) - 1, np.where(np.arange(nodes) == 0, -1, 0)
    drawn = [random_parents(rng, nodes, forest=i % 2 == 0) for i in range(6)]
    check_tree(np.stack([chain, star, np.full(nodes, -1), *drawn]), rng.integers(0, 9, 9))


def test_nodes_that_do_not_exist():
    rng = np.random.default_rng(4)
    parents = np.stack([random_parents(rng, 10) for _ in range(12)])
    drawn = rng.random(parents.shape) < 0.7
    valid = np.array(
        [[exists(p, v, n) for n in range(10)] for p, v in zip(parents, drawn, strict=True)]
    )
    assert 0 < valid.sum() < valid.size
    check_tree(parents, rng.integers(0, 9, 12), valid)


PARENTS = st.integers(1, 8).flatmap(
    lambda n: st.tuples(*(st.integers(-1, node - 1) for node in range(n)))
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(PARENTS, st.integers(0, 5), st.integers(0, 255))
def test_any_tree(parents, start, kept):
    """Padded to one width, so that all examples share one program."""
    padded = np.array([*parents, *[-1] * (8 - len(parents))])
    alive = [bool(kept >> n & 1) and n < len(parents) for n in range(8)]
    valid = np.array([exists(padded, alive, n) for n in range(8)])
    check_tree(padded[None], np.array([start]), valid[None])


def test_one_tree_serves_all_rows():
    parents = np.array([-1, 0, 0, 1])
    start = jnp.asarray([3, 8])
    shared = visibility.tree(jnp.asarray(parents), start)
    apart = visibility.tree(jnp.asarray(np.stack([parents, parents])), start)
    jax.tree.map(np.testing.assert_array_equal, shared, apart)


def test_a_forest_is_a_tree_with_several_roots():
    parents = jnp.asarray([[-1, -1, 0, 1, 1], [-1, 0, -1, 2, 0]])
    start = jnp.asarray([4, 0])
    jax.tree.map(
        np.testing.assert_array_equal,
        visibility.forest(parents, start),
        visibility.tree(parents, start),
    )


def test_two_streams():
    ranks = np.array([[2, 0, 3, 1], [0, 1, 2, 3]])
    content, query = visibility.two_stream(jnp.asarray(ranks))
    check(content, lambda b, i, j: ranks[b][j] <= ranks[b][i])
    check(query, lambda b, i, j: ranks[b][j] < ranks[b][i], keys=content)
    check(query, lambda b, i, j: False)
    check(content, lambda b, i, j: False, keys=query)


def test_fork_and_join():
    """a, then (b1 b2) beside (c1) beside (d1 d2 d3), then e: reachability in the graph."""
    branches = [["b1", "b2"], ["c1"], ["d1", "d2", "d3"]]
    edges = {("a", branch[0]) for branch in branches} | {(branch[-1], "e") for branch in branches}
    edges |= {pair for branch in branches for pair in itertools.pairwise(branch)}

    def reaches(source, target):
        return source == target or any(reaches(y, target) for x, y in edges if x == source)

    forward = ["a", *itertools.chain(*branches), "e"]
    backward = ["a", *itertools.chain(*branches[::-1]), "e"]
    place = lambda order: jnp.asarray([[order.index(name) for name in forward]])
    spans = visibility.fork_join(place(forward), place(backward))
    check(spans, lambda b, i, j: reaches(forward[j], forward[i]))


@pytest.mark.parametrize("seed", range(4))
def test_parents_are_read_off_spans(seed):
    """Of forests in any order of slots, with nodes that do not exist, and of padded causal sequences."""
    rng = np.random.default_rng(seed)
    nodes, batch = 9, 5
    parents = np.stack([[rng.integers(-1, n) for n in range(nodes)] for _ in range(batch)])
    exists = rng.random((batch, nodes)) < 0.8
    for n in range(nodes):
        above = np.take_along_axis(exists, np.maximum(parents[:, n], 0)[:, None], axis=1)[:, 0]
        exists[:, n] &= above | (parents[:, n] < 0)
    start = jnp.asarray(rng.integers(0, 50, batch))
    spans = visibility.tree(jnp.asarray(parents), start, jnp.asarray(exists))
    found = np.asarray(jax.jit(visibility.parents)(*spans))
    np.testing.assert_array_equal(found[exists], parents[exists])
    shuffle = rng.permutation(nodes)
    moved = np.asarray(visibility.parents(*(x[:, shuffle] for x in spans)))
    back = np.where(moved < 0, -1, shuffle[np.maximum(moved, 0)])
    np.testing.assert_array_equal(back[exists[:, shuffle]], parents[:, shuffle][exists[:, shuffle]])
    inputs = visibility.causal(jnp.arange(6)[None] + 3).where(jnp.arange(6)[None] < 4)
    assert visibility.parents(*inputs)[0, :4].tolist() == [-1, 0, 1, 2]
