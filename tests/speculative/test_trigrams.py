"""Adaptive trigrams: the table and the trees against Python twins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import drafters
from jaxdec.speculative.drafters.trigram_tree import Trigrams
from jaxdec.testing.oracles import hash_oracle
from tests.speculative.contexts import context, randoms, request

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, K, MEMORY = 6, 3, 0.5


class Twin:
    """The table as a dict from buckets to pairs and their falling laws."""

    def __init__(self, buckets):
        self.table = Trigrams.empty(buckets, K)
        self.rows = {}

    def bucket(self, pair):
        return int(self.table.at(jnp.asarray(pair))[0])

    def law(self, pair):
        owner, law = self.rows.get(self.bucket(pair), (None, []))
        return law if owner == tuple(pair) else []

    def learn(self, pairs, mask, tokens, weights):
        found = {}  # written at the end: all read the old table
        for pair, real, seen, shares in zip(pairs, mask, tokens, weights, strict=True):
            if not real:
                continue
            old = dict(self.law(pair))
            fresh = 1 - MEMORY if old else 1.0
            law = {
                token: fresh * share + MEMORY * old.pop(token, 0.0)
                for token, share in zip(seen, shares, strict=True)
            }
            law |= {token: MEMORY * weight for token, weight in old.items()}
            best = sorted(law.items(), key=lambda item: -item[1])[:K]
            found[self.bucket(pair)] = (tuple(pair), best)
        self.rows.update(found)


def laws(table):
    """What the arrays hold, as the twin holds it."""
    held = {}
    for bucket in np.flatnonzero(np.asarray(table.weights[:, 0]) > 0):
        weights = np.asarray(table.weights[bucket])
        slots = zip(np.asarray(table.tokens[bucket]).tolist(), weights.tolist(), strict=True)
        held[int(bucket)] = (tuple(np.asarray(table.pairs[bucket]).tolist()), list(slots))
    return held


def same(held, twin):
    assert held.keys() == twin.keys()
    for bucket, (pair, law) in twin.items():
        owner, slots = held[bucket]
        assert owner == pair
        slots = [(token, weight) for token, weight in slots if weight > 0]
        assert [token for token, _ in slots] == [token for token, _ in law]
        np.testing.assert_allclose([w for _, w in slots], [w for _, w in law], rtol=1e-5)


@pytest.mark.parametrize("buckets", [4, 64])
def test_learning_against_a_twin(buckets):
    random, twin = randoms(0), Twin(buckets)
    table, learn = twin.table, jax.jit(lambda table, *seen: table.learn(*seen, MEMORY))
    for _ in range(6):
        pairs = random.integers(0, V, (8, 2))
        mask = random.random(8) < 0.8
        tokens = np.array([random.permutation(V)[:2] for _ in pairs])
        weights = np.sort(random.dirichlet(np.ones(3), 8)[:, :2])[:, ::-1].astype(np.float32)
        twin.learn(pairs.tolist(), mask, tokens.tolist(), weights.tolist())
        table = learn(table, *map(jnp.asarray, (pairs, mask, tokens, weights)))
        same(laws(table), twin.rows)
    evicted = len({tuple(p) for p in np.indices((V, V)).reshape(2, -1).T.tolist()}) > buckets
    assert evicted == (buckets == 4)


def best_paths(law, pair, depth, nodes):
    """The likeliest paths, by a search over all of them."""
    found, level = {}, {(): 1.0}
    for _ in range(depth):
        level = {
            (*path, token): reached * weight
            for path, reached in level.items()
            for token, weight in law((*pair, *path)[-2:])
        }
        found |= level
    return sorted(found, key=lambda path: -found[path])[:nodes]


@pytest.mark.parametrize(("depth", "nodes"), [(3, 5), (2, 30)])
def test_trees_hold_the_likeliest_paths(depth, nodes):
    random, twin = randoms(1), Twin(64)
    pairs = random.permutation(np.indices((V, V)).reshape(2, -1).T)[:24]
    tokens = np.array([random.permutation(V)[:K] for _ in pairs])
    weights = np.sort(random.dirichlet(np.ones(4), 24)[:, :K])[:, ::-1].astype(np.float32)
    twin.learn(pairs.tolist(), [True] * 24, tokens.tolist(), weights.tolist())
    table = twin.table.learn(*map(jnp.asarray, (pairs, np.ones(24, bool), tokens, weights)), MEMORY)
    grow = jax.jit(lambda pair: table.grow(pair, depth, nodes))
    for pair in pairs[:3].tolist():
        tokens, parents, exists = (np.asarray(x) for x in grow(jnp.asarray(pair)))
        read = {-1: ()}
        for node in np.flatnonzero(exists):
            read[node] = (*read[parents[node]], int(tokens[node]))
        wanted = best_paths(twin.law, pair, depth, nodes)
        assert set(read.values()) == {(), *wanted}
        assert len(read) == len(wanted) + 1  # each path stands there once


@pytest.mark.slow
def test_the_prompt_is_learned():
    model, _ = hash_oracle(V)
    drafter = drafters.trigram_tree(model, slots=K, buckets=64, memory=MEMORY)
    prompt = [1, 2, 3, 1, 2, 4, 1, 2, 3, 3]
    state = jax.jit(lambda asked: drafter.init(None, asked, None))(request([prompt, [5, 0]], V))
    twin = Twin(64)
    for first, second, third in zip(prompt, prompt[1:], prompt[2:], strict=False):
        twin.learn([(first, second)], [True], [[third]], [[1.0]])
    tables = [jax.tree.map(lambda x, row=row: x[row], state) for row in (0, 1)]
    same(laws(tables[0]), twin.rows)
    assert laws(tables[1]) == {}
    tree, (pairs, exists) = drafter.propose(None, state, context([prompt[:-1], [5, 0]], V, 12))
    assert tree.mask.any(1).tolist() == [True, False]  # nothing is known of 5, 0
    assert pairs[:, 0].tolist() == [[2, 3], [5, 0]]
    assert exists[:, 0].all()
    for node in np.flatnonzero(tree.mask[0]):
        parent = int(tree.parents[0, node])
        before = 3 if parent < 0 else int(tree.tokens[0, parent])
        assert pairs[0, node + 1].tolist() == [before, int(tree.tokens[0, node])]
