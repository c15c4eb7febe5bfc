"""First finishers against all traces run to their ends."""

import jax
import numpy as np
import pytest

from jaxdec import search
from jaxdec.decoding import Status
from tests.search.rows import LENGTHS, PLAIN, WALK, generate, texts

pytestmark = pytest.mark.usefixtures("quick_compilation")
HYPOTHESES = 5
SEEDS = range(4)


def finishers(whole, m):
    """The rows of each prompt that finish among the first m."""
    found = []
    for p in range(2):
        rows = range(p * HYPOTHESES, (p + 1) * HYPOTHESES)
        ended = [b for b in rows if whole.status[b] is Status.EOS]
        found += sorted(ended, key=lambda b: (int(whole.lengths[b]), b))[:m]
    return set(found)


@pytest.mark.parametrize("inner", [PLAIN, WALK], ids=["plain", "walk"])
@pytest.mark.parametrize("m", [1, 3])
def test_the_shortest_are_kept(inner, m):
    decoder = search.short_m_at_k(inner, m) if m > 1 else search.first_finish(inner)
    some_pruned = some_missing = False
    for seed in SEEDS:
        key = jax.random.key(seed)
        whole = generate(PLAIN, HYPOTHESES, key)
        found = generate(decoder, HYPOTHESES, key)
        kept = finishers(whole, m)
        weights = np.asarray(found.pool.log_weights)
        for b, (text, complete) in enumerate(zip(texts(found), texts(whole), strict=True)):
            if b in kept:
                assert text == complete and weights[b] == 0
                continue
            assert weights[b] == -np.inf
            assert text == complete[: len(text)]
            if found.status[b] is Status.PRUNED:
                some_pruned = True
                mine = {k for k in kept if k // HYPOTHESES == b // HYPOTHESES}
                longest = max(int(whole.lengths[k]) for k in mine)
                assert len(mine) == m and longest <= len(text) < longest + decoder.width
        some_missing |= len(kept) < 2 * m
        if inner is PLAIN and m == 1:  # no prompt runs longer than its shortest trace
            for p in range(2):
                mine = [k for k in kept if k // HYPOTHESES == p]
                if mine:
                    rows = slice(p * HYPOTHESES, (p + 1) * HYPOTHESES)
                    steps = np.asarray(found.stats.target_forwards)[rows]
                    assert steps.max() == int(whole.lengths[mine[0]]) - LENGTHS[p]
    assert some_pruned


def test_answers_follow_the_thinking():
    """With a delimiter, the m whose thinking ends first go on to their ends."""
    decoder, m, think = search.short_m_at_k(WALK, 2, end_of_thinking=[3]), 2, 3
    several = 0
    for seed in SEEDS:
        key = jax.random.key(seed)
        whole, found = generate(PLAIN, HYPOTHESES, key), generate(decoder, HYPOTHESES, key)
        for p in range(2):
            rows = range(p * HYPOTHESES, (p + 1) * HYPOTHESES)
            size, marks = int(LENGTHS[p]), {}
            for b in rows:
                new = texts(whole)[b][size:]
                if think in new:
                    marks[b] = new.index(think) + 1
                elif whole.status[b] is Status.EOS:
                    marks[b] = len(new)
            kept = sorted(marks, key=lambda b: (marks[b], b))[:m]
            for b in kept:
                assert texts(found)[b] == texts(whole)[b] and found.status[b] == whole.status[b]
            weights = np.asarray(found.pool.log_weights)
            assert {b for b in rows if weights[b] == 0} == set(kept)
            if len(kept) == m:
                for b in set(rows) - set(kept):
                    several += found.status[b] is Status.PRUNED
    assert several > 4


def test_limits():
    key = jax.random.key(9)
    whole = generate(PLAIN, HYPOTHESES, key)
    every = generate(search.short_m_at_k(PLAIN, HYPOTHESES), HYPOTHESES, key)
    assert texts(every) == texts(whole) and every.status == whole.status
    one = generate(search.first_finish(PLAIN), 1, key)
    assert texts(one) == texts(whole)[::HYPOTHESES]
    with pytest.raises(ValueError, match="m is 3; there are 2 hypotheses a prompt"):
        generate(search.short_m_at_k(PLAIN, 3), 2, key)
    with pytest.raises(ValueError, match="m must be at least 1, got 0"):
        search.short_m_at_k(PLAIN, 0)
