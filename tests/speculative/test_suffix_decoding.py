"""SuffixDecoding against counts by hand."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import drafters
from jaxdec.speculative.drafters import history_of
from tests.speculative.contexts import context, paths, propose, randoms, request

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, DEPTH, LONGEST, NODES, LEAST = 3, 4, 5, 9, 0.15


def occurrences(text, some):
    """How often a sequence stands in a text."""
    return sum(text[i : i + len(some)] == some for i in range(len(text) - len(some) + 1))


def tree_of(row, texts, factor):
    """`(score, shares by path)` of the best match length, every share that is large enough."""
    count = lambda some: sum(occurrences(text, some) for text in texts)
    best = (0.0, {}, 0)
    for m in range(1, min(LONGEST, len(row)) + 1):
        context, shares, level = row[-m:], {}, [()]
        if not count(context):
            break
        for _ in range(DEPTH):
            level = [(*path, token) for path in level for token in range(V)]
            found = {path: count([*context, *path]) / count(context) for path in level}
            level = [path for path in level if found[path] >= LEAST]
            shares |= {path: found[path] for path in level}
        budget = min(NODES, int(factor * m))
        score = sum(sorted(shares.values(), reverse=True)[:budget])
        if score >= best[0] - 1e-6:
            best = (score, shares, budget)
    return best


@functools.cache
def cases():
    """Rows of a batch, and a history."""
    random = randoms(0)
    rows = [random.integers(0, V, n).tolist() for n in (40, 31, 7, 2, 1)]
    rows += [[0, 1, 2, 2] * 8, [1] * 20]
    return rows, [random.integers(0, V, 24).tolist(), [0, 1, 2, 2, 1, 0], [2]]


@pytest.mark.parametrize("factor", [1.0, 2.5])
@pytest.mark.parametrize("shared", [False, True])
def test_trees_are_those_of_counts(factor, shared):
    rows, texts = cases()
    drafter = drafters.suffix_decoding(
        length=DEPTH, nodes=NODES, longest=LONGEST, occurrences=64, factor=factor, least=LEAST,
        name="history" if shared else "",
    )  # fmt: skip
    history = history_of(texts) if shared else None
    tree, _ = propose(drafter, history, None, context(rows, V, DEPTH))
    drafted, far = 0, 0
    for row, text in enumerate(rows):
        best = own = tree_of(text, [text], factor)
        if shared:
            other = tree_of(text, texts, factor)
            best = max(own, other, key=lambda found: found[0])  # the first of equals
            far += best is other
        score, shares, budget = best
        read = paths(tree.tokens[row], tree.parents[row], tree.mask[row])
        assert len(set(read)) == len(read) == min(budget, len(shares))
        np.testing.assert_allclose(sum(shares[path] for path in read), score, rtol=1e-6)
        drafted += len(read)
    assert drafted > 12 and (far > 0) == shared


def test_short_matches_are_counted_among_the_longest_and_latest():
    text = [0, 1, 0, 1, 0, 2, 0, 0, 1, 1, 0]
    few = drafters.suffix_decoding(length=1, nodes=4, longest=2, occurrences=2, factor=4.0)
    tree, _ = propose(few, None, None, context([text], V, 1))
    # After 1 0: a 1 and a 2, and the end itself.
    assert sorted(paths(tree.tokens[0], tree.parents[0], tree.mask[0])) == [(1,), (2,)]


def test_texts_of_a_history_do_not_touch():
    assert history_of([[0, 1], np.array([[2]])]).tolist() == [0, 1, -1, 2, -1]
    drafter = drafters.suffix_decoding(length=3, nodes=8, longest=2, factor=9.0, name="history")
    tree, _ = propose(drafter, history_of([[0, 1, 2], [2, 2]]), None, context([[0, 1]], V, 3))
    assert paths(tree.tokens[0], tree.parents[0], tree.mask[0]) == [(2,)]


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"factor must be above 0, got 0\.0"):
        drafters.suffix_decoding(factor=0.0)
    with pytest.raises(ValueError, match=r"least must lie in .0, 1., got 1\.5"):
        drafters.suffix_decoding(least=1.5)
    drafter = drafters.suffix_decoding(name="history")
    with pytest.raises(ValueError, match="'history' must be a history"):
        drafter.check(request([[1]], V), {"target": {}, "history": jnp.zeros((2, 2), jnp.int32)})
