"""Votes, minimum Bayes risk and best of n against twins in Python, and where they are one another."""

import collections
import functools
import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.search import selection
from jaxdec.testing.statistics import g_test

pytestmark = pytest.mark.usefixtures("quick_compilation")

P, N = 48, 7
RNG = np.random.default_rng(0)
IDS = RNG.integers(-1, 3, (P, N))
IDS[0] = -1  # a prompt without any answer
IDS[1] = 2
WEIGHTS = RNG.integers(0, 5, (P, N)) / 4  # sums are exact, in any order
LENGTHS = np.stack([RNG.permutation(N) for _ in range(P)]) + 1
LOG_PROBS = -RNG.permutation(P * N).reshape(P, N) / 50


def voted(ids, weights, tie, log_probs, lengths):
    """Winner and answer of one prompt."""
    totals = collections.defaultdict(float)
    for a, w in zip(ids, weights, strict=True):
        if a >= 0:
            totals[a] += w
    if not totals:
        return -1, -1
    tied = [a for a, total in totals.items() if total == max(totals.values())]
    of = lambda a: [i for i in range(len(ids)) if ids[i] == a]
    if tie == "log_prob":
        mass = lambda a: math.log(sum(math.exp(log_probs[i]) for i in of(a)))
        answer = max(tied, key=mass)
        return max(of(answer), key=lambda i: log_probs[i]), answer
    key = (lambda i: (lengths[i], i)) if tie == "shortest" else (lambda i: i)
    winner = min((i for a in tied for i in of(a)), key=key)
    return winner, ids[winner]


@pytest.mark.parametrize("tie", ["first", "log_prob", "shortest"])
def test_votes(tie):
    decide = jax.jit(functools.partial(selection.vote, tie=tie))
    for weights in (WEIGHTS, np.ones((P, N))):
        found = decide(IDS, weights, log_probs=LOG_PROBS, lengths=LENGTHS)
        wanted = [
            voted(*(x[p].tolist() for x in (IDS, weights)), tie, LOG_PROBS[p], LENGTHS[p])
            for p in range(P)
        ]
        np.testing.assert_array_equal(found.winner, [w for w, _ in wanted])
        np.testing.assert_array_equal(found.answer, [a for _, a in wanted])
        np.testing.assert_array_equal(
            np.where(
                IDS >= 0, np.where(IDS[:, None] == IDS[..., None], weights[:, None], 0).sum(-1), 0
            ),
            found.totals,
        )
    if tie != "first":  # nothing is tied to the end: the order of the samples does not matter
        order = RNG.permutation(N)
        moved = decide(
            IDS[:, order],
            WEIGHTS[:, order],
            log_probs=LOG_PROBS[:, order],
            lengths=LENGTHS[:, order],
        )
        again = decide(IDS, WEIGHTS, log_probs=LOG_PROBS, lengths=LENGTHS)
        np.testing.assert_array_equal(moved.answer, again.answer)
        np.testing.assert_array_equal(
            np.where(moved.winner < 0, -1, order[moved.winner]), again.winner
        )


def test_ties_are_decided_differently():
    ids, lengths = np.array([0, 1, 1, 0]), np.array([4, 4, 2, 3])
    log_probs = np.log([0.3, 0.05, 0.05, 0.4])
    by = {tie: selection.vote(ids, tie=tie, log_probs=log_probs, lengths=lengths) for tie in
          ("first", "log_prob", "shortest")}  # fmt: skip
    assert [int(by[tie].winner) for tie in by] == [0, 3, 2]
    assert [int(by[tie].answer) for tie in by] == [0, 0, 1]
    even = np.log([0.1, 0.3, 0.3, 0.1])  # and where totals of probability are tied as well
    again = selection.vote(np.array([0, 1, 0, 1]), tie="log_prob", log_probs=even)
    assert (int(again.winner), int(again.answer)) == (2, 0)
    for tie in ("log_prob", "shortest"):
        with pytest.raises(ValueError, match=f"tie='{tie}' needs"):
            selection.vote(ids, tie=tie)
    with pytest.raises(
        ValueError, match="tie must be one of first, log_prob, shortest, got 'last'"
    ):
        selection.vote(ids, tie="last")
    with pytest.raises(ValueError, match=r"weights must have shape \[4\], got \[3\]"):
        selection.vote(ids, np.ones(3))


def test_weights_that_are_none():
    found = selection.vote(np.array([0, 1, 1, 2]), np.array([np.nan, 0.5, -1.0, 0.25]))
    assert (int(found.answer), found.totals.tolist()) == (1, [0, 0.5, 0.5, 0.25])
    scores = np.array([[2.0, 4.0, np.nan, 3.0], [5.0, 5.0, np.inf, 5.0]])
    weights = selection.min_max(scores, np.array([[True] * 4, [True, True, True, False]]))
    np.testing.assert_array_equal(weights, [[0, 1, 0, 0.5], [1, 1, 0, 0]])


def test_equal_answers():
    rows, lengths = RNG.integers(-1, 1, (P, N, 3)), RNG.integers(0, 4, (P, N))
    valid = RNG.random((P, N)) < 0.8
    ids = jax.jit(selection.answer_ids)(rows, lengths, valid)
    assert ids.dtype == jnp.int32
    for p in range(P):
        seen = {}
        for i in range(N):
            text = tuple(rows[p, i, : lengths[p, i]])
            assert ids[p, i] == (seen.setdefault(text, i) if valid[p, i] else -1)
    with pytest.raises(ValueError, match=r"lengths must have shape \[2\], got \[3\]"):
        selection.equal_rows(np.zeros((2, 4), int), np.zeros(3, int))
    with pytest.raises(ValueError, match="rows must hold integers, got float64"):
        selection.equal_rows(np.zeros((2, 4)), np.zeros(2, int))
    with pytest.raises(ValueError, match=r"shape \[..., N, N\], got \[2, 3\]"):
        selection.canonical_ids(np.ones((2, 3), bool))


def test_the_majority_has_the_least_risk():
    there = IDS >= 0
    same = (IDS[:, :, None] == IDS[:, None, :]) & there[:, None, :]
    risk = jax.jit(selection.mbr)(
        same.astype(np.float32), there.astype(np.float32), candidates=there
    )
    majority = jax.jit(selection.vote)(IDS)
    np.testing.assert_array_equal(risk.winner, majority.winner)
    share = np.asarray(majority.totals) / np.maximum(there.sum(1), 1)[:, None]
    np.testing.assert_allclose(np.asarray(risk.values)[there], share[there], rtol=1e-6)


@pytest.mark.parametrize("own", [True, False])
def test_risk_over_two_pools(own):
    utility = RNG.random((5, 3, 6))
    weights = (RNG.random((5, 6)) < 0.7) * RNG.random((5, 6))
    weights[0] = 0
    candidates = np.array([[True] * 3] * 4 + [[False, True, True]])
    risk = jax.jit(functools.partial(selection.mbr, own=own))(
        utility, weights, candidates=candidates
    )
    for p in range(5):
        values = []
        for i in range(3):
            w = weights[p].copy()
            w[i] *= own
            values.append((w @ utility[p, i]) / w.sum() if w.sum() and candidates[p, i] else np.nan)
        np.testing.assert_allclose(risk.values[p], values, rtol=1e-5)
        assert risk.winner[p] == (-1 if np.isnan(values).all() else np.nanargmax(values))
    assert risk.winner[0] == -1


def test_token_f1():
    rows, lengths = RNG.integers(0, 3, (2, 4, 5)), np.array([[0, 5, 3, 2], [4, 4, 0, 1]])
    others, sizes = RNG.integers(0, 3, (2, 3, 6)), np.array([[6, 0, 2], [1, 5, 3]])

    def f1(a, b):
        both = len(a) + len(b)
        return 2 * (collections.Counter(a) & collections.Counter(b)).total() / both if both else 1

    for texts, ends, found in (
        (rows, lengths, jax.jit(selection.token_f1)(rows, lengths)),
        (others, sizes, jax.jit(selection.token_f1)(rows, lengths, others, sizes)),
    ):
        wanted = [
            [[f1(a[:m].tolist(), b[:n].tolist()) for b, n in zip(texts[p], ends[p], strict=True)]
             for a, m in zip(rows[p], lengths[p], strict=True)]
            for p in range(2)
        ]  # fmt: skip
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_the_best_of_n():
    scores = np.array([[1, 3, 3], [np.nan, -np.inf, np.nan], [np.inf, 2, 5], [np.nan] * 3])
    np.testing.assert_array_equal(selection.best_of_n(scores), [1, 1, 0, -1])
    valid = np.array([[True, False, True], [True, False, True], [False, True, True], [True] * 3])
    np.testing.assert_array_equal(selection.best_of_n(scores, valid), [2, -1, 2, -1])
    with pytest.raises(ValueError, match=r"valid must have shape \[4, 3\], got \[3\]"):
        selection.best_of_n(scores, valid[0])


def test_a_soft_choice_has_its_law():
    draws, scores = 5_000, np.array([0.5, 1.5, np.nan, 1.0, -np.inf, 9.0])
    valid = np.array([True] * 5 + [False])
    keys = jax.random.split(jax.random.key(1), (3, draws))
    beta = np.array([0.0, 1.3, 1e30], np.float32)
    soft = jax.jit(jax.vmap(selection.soft_best_of_n))
    spread = lambda x: np.broadcast_to(x, (3, draws, 6))
    found = np.asarray(
        soft(keys, spread(scores), np.repeat(beta[:, None], draws, 1), spread(valid))
    )
    for row, b in zip(found, beta, strict=True):
        behind = np.clip(np.float64(b) * (np.nan_to_num(scores, neginf=0) - 1.5), -99, 0)
        law = np.where([1, 1, 0, 1, 0, 0], np.exp(behind), 0)
        assert g_test(np.bincount(row, minlength=6), law / law.sum()) > 1e-3
    key = jax.random.key(0)
    assert int(selection.soft_best_of_n(key, scores, 1.0, np.zeros(6, bool))) == -1
    assert int(selection.soft_best_of_n(key, np.array([0, np.inf, 1]), 0.5)) == 1
    with pytest.raises(ValueError, match="beta must be at least 0, got -1"):
        selection.soft_best_of_n(key, scores, -1.0)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_law_of_the_best(n):
    p = np.array([0.3, 0.25, 0.0, 0.25, 0.15, 0.05])
    scores = np.array([1.0, 3.0, 9.0, 3.0, 0.0, 4.0])
    wanted = np.zeros(6)
    for drawn in itertools.product(range(6), repeat=n):
        best = max(drawn, key=lambda x: scores[x])  # the first of several
        wanted[best] += math.prod(p[x] for x in drawn)
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(selection.win_law)(p, scores, n))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)
    single = jax.jit(selection.win_law)(p, scores, n)
    np.testing.assert_allclose(single, wanted, rtol=1e-5, atol=1e-7)


def test_the_law_of_the_best_keeps_its_digits():
    tiny = [Fraction(1, 2), Fraction(1, 10**12), Fraction(3, 10**15)]
    p = [1 - sum(tiny), *tiny]
    for n in (2, 100, 2**20):
        upto = [sum(p[: i + 1]) for i in range(4)]
        # float() of long fractions costs nothing only for short powers
        wanted = [
            float(upto[i] ** n - (upto[i] - p[i]) ** n) if n <= 100 else None for i in range(4)
        ]
        with jax.enable_x64(True):
            found = np.asarray(jax.jit(selection.win_law)(np.array(p, float), np.arange(4.0), n))
        np.testing.assert_allclose(found.sum(), 1, rtol=1e-9)
        for got, want in zip(found, wanted, strict=True):
            if want is not None:
                np.testing.assert_allclose(got, want, rtol=1e-9)


def test_scores_of_steps():
    scores = np.array([[0.5, 0.25, 1.0], [0.5, 0.75, 0.1], [np.nan] * 3])
    count = np.array([3, 2, 0])
    for how, wanted in (
        ("last", [1.0, 0.75]),
        ("min", [0.25, 0.5]),
        ("product", [0.125, 0.375]),
        ("mean", [1.75 / 3, 0.625]),
    ):
        found = np.asarray(selection.of_steps(scores, count, how))
        np.testing.assert_allclose(found[:2], wanted, rtol=1e-6)
        assert np.isnan(found[2])
    with pytest.raises(ValueError, match="how must be one of last, min, product, mean, got 'max'"):
        selection.of_steps(scores, count, "max")


def test_short_votes():
    steps = RNG.integers(-1, 5, (P, N))
    for last in (True, False):
        short = jax.jit(functools.partial(selection.short_vote, last=last))
        for m in (1, 3, N):
            found = jax.tree.map(np.asarray, short(IDS, steps, np.int32(m)))
            for p in range(P):
                order = [i for i in range(N) if steps[p, i] >= 0]
                order.sort(key=lambda i: (-steps[p, i] if last else steps[p, i], i))
                heard = [int(IDS[p, i]) if i in order[:m] else -1 for i in range(N)]
                wanted = voted(heard, [1] * N, "shortest", None, steps[p])
                assert (int(found.winner[p]), int(found.answer[p])) == wanted
    # With everything finished: the first alone, and all of them, are first finish search and the majority.
    one, whole = (short(IDS, LENGTHS, np.int32(m)) for m in (1, N))
    fastest = LENGTHS.argmin(1)
    answered = IDS[np.arange(P), fastest] >= 0
    np.testing.assert_array_equal(one.winner, np.where(answered, fastest, -1))
    majority = jax.jit(functools.partial(selection.vote, tie="shortest"))(IDS, lengths=LENGTHS)
    np.testing.assert_array_equal(whole.winner, majority.winner)
    verified = RNG.random((P, N)) < 0.3
    wanted = [
        min((i for i in range(N) if verified[p, i]), key=lambda i: LENGTHS[p, i], default=-1)
        for p in range(P)
    ]
    np.testing.assert_array_equal(jax.jit(selection.first_verified)(verified, LENGTHS), wanted)
    with pytest.raises(ValueError, match="m must lie in"):
        selection.short_vote(IDS, steps, 0)


def clustered(similarity, threshold, most, members, valid):
    clusters, ids = [], []
    for i in range(len(similarity)):
        if not valid[i]:
            ids.append(-1)
            continue
        pair = lambda j: (similarity[i][j] + similarity[j][i]) / 2  # noqa: B023
        means = [sum(map(pair, c[:members])) / len(c[:members]) for c in clusters]
        best = int(np.argmax(means)) if means else -1
        if means and (means[best] > threshold or len(clusters) == most):
            clusters[best].append(i)
            ids.append(best)
        else:
            clusters.append([i])
            ids.append(len(clusters) - 1)
    return ids


def test_clusters():
    similarity = RNG.integers(1, 16, (P, N, N)) / 16
    threshold, valid = RNG.integers(4, 12, P) / 16, RNG.random((P, N)) < 0.9
    for most, members in ((N, 2), (3, N)):
        cluster = jax.jit(functools.partial(selection.cluster, most=most, members=members))
        found = jax.tree.map(np.asarray, cluster(similarity, threshold, valid=valid))
        for p in range(P):
            ids = clustered(similarity[p], threshold[p], most, members, valid[p])
            assert found.ids[p].tolist() == ids
            assert found.survivors[p].tolist() == [
                a >= 0 and ids.index(a) == i for i, a in enumerate(ids)
            ]
            assert found.sizes[p].tolist() == [ids.count(a) if a >= 0 else 0 for a in ids]
    cluster = jax.jit(functools.partial(selection.cluster, most=N, members=2))
    every = np.ones((P, N), bool)
    apart = cluster(similarity, np.ones(P), valid=every)
    assert apart.survivors.all()  # and the vote of the survivors is that of all
    one = cluster(similarity, np.zeros(P), valid=every)
    assert (np.sum(one.survivors, 1) == 1).all() and (np.asarray(one.sizes) == N).all()
    # Where traces of one answer are what the judge says, the survivors' vote by size is the majority.
    same = (IDS[:, :, None] == IDS[:, None, :]).astype(float)
    held = cluster(same, np.full(P, 0.5), valid=IDS >= 0)
    vote = jax.jit(selection.vote)
    pruned = vote(np.where(held.survivors, IDS, -1), np.asarray(held.sizes, float))
    np.testing.assert_array_equal(pruned.answer, vote(IDS, np.ones((P, N))).answer)
    index, there = map(
        np.asarray, jax.jit(selection.chosen_rows, static_argnums=1)(held.survivors, 3)
    )
    for p in range(P):
        wanted = np.flatnonzero(held.survivors[p])[:3]
        np.testing.assert_array_equal(index[p][there[p]], wanted)
    for bad, message in (
        (dict(most=0), "most must be at least 1, got 0"),
        (dict(most=2, members=0), "members must"),
    ):
        with pytest.raises(ValueError, match=message):
            selection.cluster(similarity, **bad)
