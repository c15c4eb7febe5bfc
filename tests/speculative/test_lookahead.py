"""Lookahead: its pool, its tree and the way of its grid."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import drafters, visibility
from jaxdec.speculative.drafters import Grid, Pool
from jaxdec.testing.oracles import hash_oracle
from tests.speculative.contexts import (
    context,
    paths,
    propose,
    randoms,
    request,
    start,
    step_result,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, N, W, G = 40, 4, 3, 2
MODEL, _ = hash_oracle(V)


def held(pool, first):
    """The n-grams of a token, the one met last first."""
    order = np.argsort(-np.asarray(pool.stamps[first]))
    return [pool.tokens[first, i].tolist() for i in order if pool.stamps[first, i] > 0]


def test_the_pool_against_a_twin():
    random = randoms(0)
    grams, real = random.integers(0, 3, (40, 3)), random.random(40) < 0.8
    pool = Pool(jnp.zeros((3, G, 2), jnp.int32), jnp.zeros((3, G), jnp.int32), jnp.int32(0))
    pool = jax.jit(Pool.add_all)(pool, jnp.asarray(grams), jnp.asarray(real))
    twin = {first: [] for first in range(3)}
    for (first, *rest), counts in zip(grams.tolist(), real, strict=True):
        if counts:
            others = [gram for gram in twin[first] if gram != rest]
            twin[first] = [rest, *others][:G]
    assert {first: held(pool, first) for first in range(3)} == twin


@pytest.mark.parametrize(
    ("ngram", "columns", "guesses"), [(4, 3, 2), (2, 3, 1), (3, 1, 2), (5, 7, 7)]
)
def test_the_tree(ngram, columns, guesses):
    drafter = drafters.lookahead(MODEL, ngram=ngram, columns=columns, guesses=guesses)
    rooted = jnp.asarray(np.concatenate([[-1], drafter.parents + 1]))
    assert len(rooted) == drafter.nodes + 1
    lineage = np.asarray(visibility.ancestors(rooted[None]))[0]
    places = drafter.places
    for level, column in np.ndindex(places.shape):
        chain = {*places[0, : column + 1].tolist(), *places[: level + 1, column].tolist()}
        assert set(np.flatnonzero(lineage[places[level, column]])) == chain
    first = places.size
    for guess in range(guesses):
        start = first + guess * (ngram - 1)
        for i in range(ngram - 1):
            assert set(np.flatnonzero(lineage[start + i])) == {0, *range(start, start + i + 1)}
    assert lineage.sum(1).max() - 1 == drafter.depth


@pytest.mark.parametrize("committed", [1, 2, 3])
def test_the_grid_keeps_its_positions(committed):
    drafter = drafters.lookahead(MODEL, ngram=N, columns=W, guesses=G)
    length = 10
    ahead = np.arange(N - 1)[:, None] + np.arange(W)
    grid = jnp.asarray(length - 1 + ahead)[None]  # each token is its own position
    logits = np.zeros((1, drafter.nodes + 1, V))
    for column, place in enumerate(drafter.places[-1]):
        logits[0, place, length - 1 + N - 1 + column] = 1  # and each answer the next one
    empty = Pool(
        jnp.zeros((1, V, G, N - 1), jnp.int32),
        jnp.zeros((1, V, G), jnp.int32),
        jnp.zeros(1, jnp.int32),
    )
    rows = types.SimpleNamespace(length=jnp.array([length + committed]))
    output = types.SimpleNamespace(logits=jnp.asarray(logits))
    state = drafter.update(
        None,
        Grid(grid, empty),
        rows,
        step_result((grid, jnp.array([length])), output=output),
    )
    inside = W + 1 - committed  # columns that were there before
    moved = np.asarray(state.tokens)[0, :, :inside]
    np.testing.assert_array_equal(moved, (length + committed - 1 + ahead)[:, :inside])
    pool = jax.tree.map(lambda x: x[0], state.pool)
    for column in range(W):  # each column and its answer
        start = length - 1 + column
        assert held(pool, start) == [list(range(start + 1, start + N))]


def test_guesses_begin_with_the_pending_token():
    drafter = drafters.lookahead(MODEL, ngram=N, columns=W, guesses=G)
    prompt = [5, 6, 7, 8, 1, 5, 9, 9, 9, 5, 3, 3, 3, 5]
    texts = [prompt, [1]]
    state = start(drafter, None, request(texts, V))
    np.testing.assert_array_equal(
        state.tokens[0],
        [[5, 3, 3], [3, 3, 3], [3, 3, 5]],  # the end of the prompt, in steps
    )
    tree, _ = propose(drafter, None, state, context(texts, V, drafter.depth))
    grid = drafter.places.size - 1
    assert tree.mask[:, :grid].all()
    read = paths(tree.tokens[0], tree.parents[0], tree.mask[0])
    assert {(3, 3, 3), (9, 9, 9)} <= set(read)  # the two met last
    assert not tree.mask[1, grid:].any()  # an empty pool


def test_what_candidates_begin_with_stands_in_the_tree_once():
    drafter = drafters.lookahead(MODEL, ngram=N, columns=W, guesses=3)
    grid = jnp.asarray([[[5, 7, 8], [7, 8, 1], [8, 2, 2]]])
    tokens = (
        jnp.zeros((1, V, 3, N - 1), jnp.int32)
        .at[0, 5]
        .set(jnp.asarray([[7, 8, 4], [6, 6, 1], [6, 6, 2]]))
    )
    pool = Pool(tokens, jnp.ones((1, V, 3), jnp.int32), jnp.ones(1, jnp.int32))
    tree, _ = propose(drafter, None, Grid(grid, pool), context([[1, 5]], V, drafter.depth))
    (tree,) = (jax.tree.map(lambda x: np.asarray(x[0]), tree),)
    places = drafter.places.size - 1
    assert tree.mask[:places].all()  # the target answers to all of the grid
    read = paths(tree.tokens, tree.parents, tree.mask)
    new = read[places:]
    assert sorted(new) == [(6,), (6, 6), (6, 6, 1), (6, 6, 2), (7, 8, 4)]
    for node in np.flatnonzero(
        tree.mask
    ):  # each hangs off the first that says what its parent says
        parent = tree.parents[node]
        assert parent < 0 or read.index(read[parent]) == parent
