"""ADED's search: against a twin, and what stands behind the text's own trigrams."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import drafters
from jaxdec.speculative.drafters import corpus_of
from jaxdec.speculative.drafters.searched_trigrams import EXPLORE, EXPLORE_SLOWLY
from jaxdec.speculative.drafters.trigram_tree import Trigrams
from jaxdec.testing.oracles import hash_oracle
from tests.speculative.contexts import context, paths, propose, randoms, request, start

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, DEPTH, NODES, SLOTS, TURNS = 5, 4, 12, 3, 40
MODEL, _ = hash_oracle(V)
MAKE = functools.partial(
    drafters.searched_trigrams, MODEL, depth=DEPTH, nodes=NODES, slots=SLOTS, buckets=64
)


def by_hand(law, pair, turns):
    """The slots that were visited, each by its path, with the number of visits and when it was first."""
    nodes, slots = {(): law(pair)}, {}
    for _ in range(turns):
        path, value, along = (), 1.0, []
        while len(path) < DEPTH:
            options = nodes[path]
            total = sum(slots.get((*path, token), (0, 0))[0] for token, _ in options)
            push = EXPLORE + math.log((total + EXPLORE_SLOWLY + 1) / EXPLORE_SLOWLY)

            def score(option, path=path, total=total, push=push):
                token, prior = option
                visits, found = slots.get((*path, token), (0, 0.0))
                mean = found / visits if visits else 0.0
                return mean + prior * math.sqrt(max(total, 1)) / (1 + visits) * push

            if not options:
                break
            token, prior = max(options, key=score)  # the first of equals
            path, value = (*path, token), value * prior
            along.append(path)
            if path not in nodes:
                if len(path) < DEPTH:
                    nodes[path] = law((*pair, *path)[-2:])
                break
        for path in along:
            visits, found = slots.get(path, (0, 0.0))
            slots[path] = visits + 1, found + value
    return {path: visits for path, (visits, _) in slots.items()}


@pytest.mark.parametrize("turns", [1, 3, TURNS])
def test_the_search_against_a_twin(turns):
    rng = randoms(turns)
    laws = {}
    for a, b in np.ndindex(V, V):
        tokens = rng.permutation(V)[:SLOTS].tolist()
        weights = np.sort(rng.dirichlet(np.ones(SLOTS)))[::-1]
        laws[a, b] = list(zip(tokens, weights.tolist(), strict=True))[: rng.integers(0, SLOTS + 1)]
    laws[1, 2] = list(zip([3, 2, 1], [0.5, 0.3, 0.2], strict=True))
    pairs = [pair for pair in laws if laws[pair]]
    table = Trigrams.empty(1 << 14, SLOTS)
    for pair in pairs:
        tokens, weights = (np.zeros((1, SLOTS)) for _ in range(2))
        tokens[0, len(laws[pair]) :] = [t for t in range(V) if t not in dict(laws[pair])][
            : SLOTS - len(laws[pair])
        ]
        for slot, (token, weight) in enumerate(laws[pair]):
            tokens[0, slot], weights[0, slot] = token, weight
        table = learn(
            table,
            jnp.asarray([pair]),
            jnp.asarray(tokens, jnp.int32),
            jnp.asarray(weights, jnp.float32),
        )
    drafter = MAKE(simulations=turns)
    tokens, parents, mask = jax.jit(drafter.paths, static_argnums=0)(None, table, jnp.array([1, 2]))
    visits = by_hand(lambda pair: laws[tuple(pair)], (1, 2), turns)
    read = paths(tokens, parents, mask)
    assert len(set(read)) == len(read) == min(NODES, len(visits))
    most = sorted(visits.values(), reverse=True)[:NODES]
    assert sorted((visits[path] for path in read), reverse=True) == most


@jax.jit
def learn(table, pairs, tokens, weights):
    return table.learn(pairs, jnp.ones(1, bool), tokens, weights, 0.0)


def test_a_corpus_is_backed_off_to():
    texts = [[0, 1, 2, 0, 1, 2, 0, 1, 3], np.array([[4, 4]])]
    corpus = corpus_of(texts, V, slots=2, buckets=64)

    def after(*pair):
        tokens, weights = (np.asarray(x[0]) for x in corpus.after(jnp.asarray([pair])))
        return [(int(t), round(float(w), 4)) for t, w in zip(tokens, weights, strict=True) if w > 0]

    assert after(0, 1) == [(2, 0.6667), (3, 0.3333)]
    assert after(3, 1) == [(2, 0.6667), (3, 0.3333)]  # by the bigram
    assert after(0, 3) == [(0, 0.2727), (1, 0.2727)]  # nothing follows a 3: of any token
    drafter = MAKE(simulations=8, slots=2, name="corpus")
    asked = request([[2, 3]], V)
    tree, _ = propose(drafter, corpus, start(drafter, corpus, asked), context([[2, 3]], V, DEPTH))
    read = paths(tree.tokens[0], tree.parents[0], tree.mask[0])
    assert read[0] in ((0,), (1,)) and (0, 1) in read
    alone = MAKE(simulations=8, slots=2)
    tree, _ = propose(alone, None, start(alone, None, asked), context([[2, 3]], V, DEPTH))
    assert not tree.mask.any()  # the row itself knows nothing


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="simulations must be at least 1, got 0"):
        MAKE(simulations=0)
    with pytest.raises(ValueError, match="6 slots for a vocabulary of 5"):
        corpus_of([], V, slots=6)
    with pytest.raises(ValueError, match="tokens outside of a vocabulary of 5"):
        corpus_of([[5]], V, slots=2)
    drafter, asked = MAKE(name="corpus"), request([[1, 2]], V)
    with pytest.raises(ValueError, match="'corpus' must be a Corpus, got dict"):
        drafter.check(asked, {"target": {}, "corpus": {}})
    other = corpus_of([], V, slots=2, buckets=8)
    with pytest.raises(ValueError, match="holds 2 slots of 5 tokens, the drafter has 3 of 5"):
        drafter.check(asked, {"target": {}, "corpus": other})
