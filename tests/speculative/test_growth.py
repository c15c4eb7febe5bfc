"""Growth rules: shapes, order, the laws that nodes say they were drawn from, and bad input."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import growth
from jaxdec.decoding import Rows
from jaxdec.generation import prepare
from jaxdec.sampling import Purpose, gumbel, key_at, row_keys
from jaxdec.speculative import Context, RankTree, grow
from jaxdec.testing.oracles import hash_oracle

pytestmark = pytest.mark.usefixtures("quick_compilation")

V = 4
MODEL, PARAMS = hash_oracle(V, seed=1)
DECODER = jaxdec.autoregressive(MODEL)


def context(batch, temperature=1.0, shares_noise=False, seed=0, depth=4):
    """The first step of rows that differ in their keys alone."""
    prompt = np.ones((batch, 2), int)
    request = prepare(
        DECODER, {"target": PARAMS}, prompt, max_new_tokens=8, temperature=temperature
    )
    return seen(
        request, row_keys(jax.random.key(seed), batch), temperature > 0, depth, shares_noise
    )


@functools.partial(jax.jit, static_argnums=(3, 4))
def seen(request, keys, noisy, depth, shares_noise):
    rows = Rows.start(request, V)
    places = key_at(keys, Purpose.DRAFT, rows.rounds[:, None], jnp.arange(depth + 1))
    return Context(rows, request.settings, keys, gumbel(places, V) * noisy, None, shares_noise)


LOGITS = jax.random.normal(jax.random.key(0), (8, V, V)) * 1.5
"""By the depth and the token before."""


@functools.partial(jax.jit, static_argnums=0)
def tree_of(rule, context, logits):
    source = lambda carry, depth, frontier: (logits[depth, frontier.tokens], carry)
    return grow(rule, None, context, source, None)[0]


@functools.cache
def grown(rule, batch=200, **options):
    tree = tree_of(rule, context(batch, **options), LOGITS)
    return jax.tree.map(np.asarray, tree), np.asarray(jax.nn.softmax(LOGITS))


RULES = {
    "chain": growth.chain(3),
    "fixed": growth.fixed(RankTree.branching((2, 2, 1))),
    "greedy siblings": growth.greedy_siblings(RankTree.branching((3, 2))),
    "uneven": growth.fixed(RankTree.best(4, 9, (0.5, 0.2, 0.1))),
    "ranked": growth.ranked(RankTree.branching((2, 2, 1))),
    "independent": growth.independent(3, 3),
    "beam": growth.stochastic_beam(3, 3),
    "threshold": growth.threshold(7, 3, width=3, siblings=3, least=0.05),
    "best first": growth.best_first(7, 3, width=3, siblings=3),
}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("name", RULES)
def test_trees_are_trees(name, temperature):
    rule = RULES[name]
    tree, _ = grown(rule, temperature=temperature)
    assert tree.tokens.shape == (200, rule.nodes) and tree.depth == rule.depth
    assert tree.mask[:, 0].all()
    for tokens, parents, mask in zip(tree.tokens, tree.parents, tree.mask, strict=True):
        assert all(parent < node for node, parent in enumerate(parents))
        held = [(p, t) for p, t, m in zip(parents, tokens, mask, strict=True) if m]
        assert all(p < 0 or mask[p] for p, _ in held)
        if name != "independent":  # whose equal siblings are legal
            assert len(set(held)) == len(held)


def test_ranked_nodes_are_the_likeliest_tokens_at_every_temperature():
    cold, laws = grown(RULES["ranked"], temperature=0.0)
    hot, _ = grown(RULES["ranked"])
    assert hot.q is None and hot.mask.all()
    np.testing.assert_array_equal(hot.tokens, cold.tokens)
    pending = laws[0, 1]  # every row ends in token 1
    np.testing.assert_array_equal(hot.tokens[:, :2], [np.argsort(-pending)[:2]] * 200)


@pytest.mark.parametrize("name", ["fixed", "uneven", "beam", "threshold"])
def test_siblings_are_drawn_without_replacement_from_the_law_that_they_state(name):
    tree, laws = grown(RULES[name])
    for row in range(200):
        for node in np.flatnonzero(tree.mask[row]):
            lineage = [node]
            while tree.parents[row, lineage[-1]] >= 0:
                lineage.append(tree.parents[row, lineage[-1]])
            above = 1 if len(lineage) == 1 else tree.tokens[row, lineage[1]]  # the prompt ends in 1
            law = laws[len(lineage) - 1, above].copy()
            same = tree.parents[row] == tree.parents[row, node]
            law[tree.tokens[row, :node][(same & tree.mask[row])[:node]]] = 0
            stated = np.exp(tree.q[row, node])
            np.testing.assert_allclose(stated, law / law.sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["fixed", "beam", "independent"])
def test_the_first_sibling_has_the_law_of_its_parent(name):
    batch = 20_000
    tree, laws = grown(RULES[name], batch=batch)
    counts = np.bincount(tree.tokens[:, 0], minlength=V) / batch
    # Five standard deviations of a share; the seed is fixed.
    np.testing.assert_allclose(counts, laws[0, 1], atol=5 * 0.5 / batch**0.5)


def test_the_second_sibling_has_the_law_of_a_second_draw():
    batch = 40_000
    tree, laws = grown(growth.fixed(RankTree.branching((2,))), batch=batch)
    p = laws[0, 1]
    joint = np.zeros((V, V))
    np.add.at(joint, (tree.tokens[:, 0], tree.tokens[:, 1]), 1 / batch)
    expected = p[:, None] * p[None] * (1 - np.eye(V)) / (1 - p[:, None])
    np.testing.assert_allclose(joint, expected, atol=5 * 0.5 / batch**0.5)


def test_greedy_siblings_are_one_draw_and_the_likeliest_tokens():
    tree, laws = grown(RULES["greedy siblings"])
    p = laws[0, 1]
    best = np.argsort(-p)[:2]
    rest = np.where(np.isin(np.arange(V), best), 0, p)
    assert (tree.tokens[:, 1:3] == best).all() and not np.isin(tree.tokens[:, 0], best).any()
    np.testing.assert_allclose(
        np.exp(tree.q[:, 0]), np.tile(rest / rest.sum(), (200, 1)), rtol=1e-4
    )
    np.testing.assert_array_equal(np.exp(tree.q[:, 1:3]).argmax(-1), tree.tokens[:, 1:3])
    assert (np.exp(tree.q[:, 1:3]).max(-1) == 1).all()


def test_greedy_trees_hold_the_likeliest_tokens():
    tree, laws = grown(RULES["fixed"], temperature=0.0)
    first = np.argsort(-laws[0, 1], kind="stable")[:2]
    assert tree.tokens[0, :2].tolist() == first.tolist()
    for node, parent in enumerate(first):
        best = np.argsort(-laws[1, parent], kind="stable")[:2]
        assert tree.tokens[0, 2 + 2 * node : 4 + 2 * node].tolist() == best.tolist()
    assert (np.exp(tree.q[0]).max(-1) == 1).all()  # chosen, not drawn


def test_a_stochastic_beam_at_temperature_zero_is_beam_search():
    tree, laws = grown(growth.stochastic_beam(3, 2), temperature=0.0)
    paths = laws[0, 1][:, None] * laws[1]
    best = np.argsort(-paths.reshape(-1))[:3]
    parents = tree.tokens[0, tree.parents[0, 3:]]
    first = np.argsort(-laws[0, 1])[:3]
    inside = [place for place in np.argsort(-paths.reshape(-1)) if place // V in first][:3]
    assert (parents * V + tree.tokens[0, 3:]).tolist() == inside
    assert best[0] == inside[0]


def test_best_first_keeps_the_likeliest_paths():
    tree, laws = grown(growth.best_first(5, 2, width=4, siblings=4))
    one = laws[0, 1]
    every = {(t,): one[t] for t in range(V)}
    every |= {(a, b): one[a] * laws[1, a, b] for a in range(V) for b in range(V)}
    expected = sorted(every, key=lambda path: -every[path])[:5]
    found = []
    for node in range(5):
        parent = tree.parents[0, node]
        found.append((*(() if parent < 0 else (tree.tokens[0, parent],)), tree.tokens[0, node]))
    assert set(found) == set(expected) and tree.q is None


def test_a_threshold_tree_grows_where_the_law_is_sure():
    least = 0.15
    tree, laws = grown(growth.threshold(12, 3, width=4, siblings=4, least=least))
    value = lambda row, node: 1.0 if node < 0 else values[row, node]
    values = np.zeros(tree.tokens.shape)
    for row in range(200):
        for node in np.flatnonzero(tree.mask[row]):
            parent, depth, above = tree.parents[row, node], 0, 1
            walk = parent
            while walk >= 0:
                walk, depth = tree.parents[row, walk], depth + 1
            if parent >= 0:
                above = tree.tokens[row, parent]
            law = laws[depth, above]
            earlier = tree.tokens[row, :node][(tree.parents[row] == parent)[:node]]
            # The slot was likely enough before anybody knew the token.
            assert value(row, parent) * (1 - law[earlier].sum()) >= least * (1 - 1e-5)
            values[row, node] = value(row, parent) * law[tree.tokens[row, node]]
    assert len({int(mask.sum()) for mask in tree.mask}) > 1  # rows have trees of their own size


def test_a_budget_does_not_choose_among_tokens():
    """Which nodes still fit depends on the draws of their neighbours, and so must not go with their own tokens."""
    first = jnp.log(jnp.asarray([0.5, 0.5, 1e-9, 1e-9]))
    second = jnp.log(jnp.asarray([0.6, 0.2, 0.1, 0.1]))
    # Two nodes, of which the first has one child if that is token 0, else two: then the other's has no room.
    rule = growth.threshold(4, 2, width=2, siblings=2, least=0.3)
    batch = 10_000

    def source(carry, depth, frontier):
        return jnp.broadcast_to(jnp.where(depth == 0, first, second), (batch, 2, V)), carry

    tree, _ = jax.jit(lambda c: grow(rule, None, c, source, None))(context(batch))
    fits = np.asarray(tree.mask[:, 3] & (tree.parents[:, 3] == 1))
    tokens = np.asarray(tree.tokens[:, 3])[fits]
    assert 0.5 * batch < len(tokens) < 0.7 * batch
    counts = np.bincount(tokens, minlength=V) / len(tokens)
    np.testing.assert_allclose(counts, jnp.exp(second), atol=5 * 0.5 / len(tokens) ** 0.5)


def test_independent_chains_share_equal_beginnings():
    tree, _ = grown(growth.independent(4, 2))
    merged = 0
    for tokens, parents in zip(tree.tokens, tree.parents, strict=True):
        for chain in range(4):
            first = tokens[:4].tolist().index(tokens[chain])  # the first chain that starts alike
            assert parents[4 + chain] == first
            merged += first != chain
    assert merged > 0


def test_an_estimate_goes_over_into_the_greedy_one():
    at = lambda temperature, **options: (
        grown(growth.best_first(6, 3, width=3, siblings=3), temperature=temperature, **options)[
            0
        ].tokens
    )
    np.testing.assert_array_equal(at(0.0), at(1e-4, shares_noise=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RankTree.of((-1, 0, 3, 1)), "node 2 has parent 3"),
        (lambda: RankTree.of((0,)), "node 0 has parent 0"),
        (lambda: RankTree.of((-1, 2, 1)), "node 1 has parent 2"),  # a cycle
        (lambda: RankTree.of((-2,)), "node 0 has parent -2"),
        (lambda: RankTree.of((-1, 0, 1), budget=2), "node 2 is past the budget of 2"),
        (lambda: RankTree.of(()), "at least 1 node"),
        (lambda: RankTree.branching((2, 0)), "factor 1 must be at least 1, got 0"),
        (lambda: RankTree.branching((2, 2), budget=5), "node 5 is past the budget of 5"),
        (lambda: growth.chain(0), "at least 1, got 0"),
        (lambda: growth.independent(0, 3), "chains must be at least 1, got 0"),
        (lambda: growth.stochastic_beam(2, 0), "depth must be at least 1, got 0"),
        (lambda: growth.threshold(4, 2, least=0.0), "least"),
        (lambda: growth.best_first(99, 2, width=2, siblings=3), "are 12, fewer than 99"),
        (lambda: jaxdec.drafters.model(MODEL, length=2, growth=growth.chain(2)), "length 2"),
    ],
)
def test_bad_trees_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_more_children_than_tokens_are_refused_before_tracing():
    rule = growth.best_first(5, 2, width=2, siblings=5)
    decoder = jaxdec.speculative(MODEL, drafter=jaxdec.drafters.model(MODEL, growth=rule))
    with pytest.raises(ValueError, match=f"5 children, but the vocabulary only {V} tokens"):
        prepare(decoder, {"target": PARAMS, "draft": PARAMS}, np.ones((1, 2), int))


def test_another_vocabulary_is_refused_before_tracing():
    other = dataclasses.replace(MODEL, vocab_size=V + 1)
    decoder = jaxdec.speculative(MODEL, drafter=jaxdec.drafters.model(other))
    with pytest.raises(ValueError, match=f"vocabulary of {V + 1}, the target has one of {V}"):
        prepare(decoder, {"target": PARAMS, "draft": PARAMS}, np.ones((1, 2), int))
