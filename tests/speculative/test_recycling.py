"""Token Recycling: its table and its trees against Python twins."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import drafters
from jaxdec.speculative.drafters import Successors, last_of_each, recycle, seed_bigrams
from jaxdec.testing.oracles import hash_oracle
from tests.speculative.contexts import context, propose, randoms, request

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, K = 6, 3


def as_lists(table):
    """The known candidates after each token."""
    pairs = zip(np.asarray(table.tokens).tolist(), np.asarray(table.count).tolist(), strict=True)
    return [row[:count] for row, count in pairs]


@pytest.mark.parametrize("length", [1, 2, 9, 20])
def test_the_prompt_gives_the_latest_successors(length):
    prompt = randoms(length).integers(0, V, 20)
    table = seed_bigrams(jnp.zeros((V, K), jnp.int32), jnp.zeros(V, jnp.int32), prompt, length)
    twin = [[] for _ in range(V)]
    for before, after in itertools.pairwise(prompt[:length]):
        rest = [token for token in twin[before] if token != after]
        twin[before] = [after, *rest][:K]
    assert as_lists(table) == twin


def test_an_update_replaces_by_the_best_of_the_last_equal_token():
    random = randoms(0)
    keys, mask = random.integers(0, V, 12), random.random(12) < 0.7
    logits = random.normal(size=(12, V))
    old = Successors(jnp.asarray(random.integers(0, V, (V, K))), jnp.asarray([0, 1, 2, 3, 0, 1]))
    twin = as_lists(old)
    for key, exists, row in zip(keys, mask, logits, strict=True):
        if exists:
            twin[key] = np.argsort(-row)[:K].tolist()
    table = recycle(old.tokens, old.count, keys, jnp.asarray(mask), jnp.asarray(logits))
    assert as_lists(table) == twin
    assert mask.sum() > len(set(keys[mask]))  # some token was scored twice


def test_the_last_of_each_key():
    mask = jnp.array([True, True, True, False, True, False])
    last = last_of_each(jnp.array([4, 2, 4, 2, 1, 1]), mask)
    assert last.tolist() == [False, True, True, False, True, False]


def test_trees_against_a_twin():
    model, _ = hash_oracle(V)
    drafter = drafters.token_recycling(model, depth=4, nodes=12, rates=(0.5, 0.2, 0.1))
    random = randoms(1)
    state = Successors(
        jnp.asarray(random.integers(0, V, (3, V, K))),
        jnp.asarray(random.integers(0, K + 1, (3, V))),
    )
    last = [2, 0, 5]
    seen = context([[t] for t in last], V, 4)
    tree, (scored, exists) = propose(drafter, None, state, seen)
    shape = drafter.shape
    for row, pending in enumerate(last):
        table = as_lists(jax.tree.map(lambda x, row=row: x[row], state))
        tokens = {-1: pending}
        for node, (parent, rank) in enumerate(zip(shape.parents, shape.ranks, strict=True)):
            if parent in tokens and rank < len(table[tokens[parent]]):
                tokens[node] = table[tokens[parent]][rank]
        real = np.flatnonzero(tree.mask[row]).tolist()
        assert {-1: pending} | {n: int(tree.tokens[row, n]) for n in real} == tokens
        assert tree.parents[row].tolist() == list(shape.parents)
        assert scored[row, 0] == pending and exists[row, 0]
    assert 0 < int(tree.mask.sum()) < tree.mask.size


def test_a_table_without_entries_proposes_nothing():
    model, _ = hash_oracle(V)
    drafter = drafters.token_recycling(model, nodes=9, rates=(0.5, 0.2, 0.1))
    state = Successors(jnp.zeros((1, V, K), jnp.int32), jnp.zeros((1, V), jnp.int32))
    tree, _ = propose(drafter, None, state, context([[0, 0]], V, drafter.depth))
    assert not tree.mask.any()


def test_a_large_vocabulary_has_a_table_of_its_size():
    model = dataclasses.replace(hash_oracle(V)[0], vocab_size=128_000)
    drafter = drafters.token_recycling(model)
    state = jax.eval_shape(
        lambda: drafter.init(None, request([[1, 2]], V), None)  # nothing is computed
    )
    assert state.tokens.shape == (1, 128_000, 8)
