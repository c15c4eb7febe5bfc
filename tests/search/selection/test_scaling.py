"""What budgets of samples are worth: pass@k, maj@k, saturation, sequential against parallel, modes and prefixes."""

import itertools
import math

import jax
import numpy as np
import pytest

from jaxdec.search import selection

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(2)


def test_pass_at_k_counts_subsets():
    cases = [(n, c, k) for n in range(1, 8) for c in range(n + 1) for k in range(1, 8)]
    n, c, k = np.array(cases).T
    place = np.arange(7)
    correct = place[::-1] >= 7 - c[:, None]  # at the end: what is behind n must not count
    correct, valid = place < c[:, None], place < n[:, None]
    found = jax.jit(selection.pass_at_k)(correct | (place >= n[:, None]), k, valid)
    for got, (n, c, k) in zip(found.tolist(), cases, strict=True):
        if k > n:
            assert math.isnan(got)
        else:
            np.testing.assert_allclose(got, 1 - math.comb(n - c, k) / math.comb(n, k), atol=1e-6)
    one = RNG.random((3, 8)) < 0.4
    np.testing.assert_allclose(jax.jit(selection.pass_at_k)(one, 1), one.mean(1), rtol=1e-6)
    with pytest.raises(ValueError, match=r"k must lie in \[1, 8\], got 9"):
        selection.pass_at_k(one, 9)
    with pytest.raises(ValueError, match="correct must be bool, got int64"):
        selection.pass_at_k(one.astype(int), 1)


def test_maj_at_k():
    ids = np.array([[0, 0, 1, 2, 1, 0], [3, -1, 1, 1, 2, 2], [-1] * 6, [0, 1, 1, 1, 1, 1]])
    truth = np.array([0, 2, 0, 1])
    correct = ids == truth[:, None]

    def exact(row, k):
        """Over all ordered subsets: the first of several most frequent answers wins."""
        hits, total = 0, 0
        for some in itertools.permutations(range(6), k):
            heard = [ids[row, i] for i in some if ids[row, i] >= 0]
            best = max(heard, key=heard.count, default=None)  # the first of several
            hits, total = hits + (best == truth[row]), total + 1
        return hits / total

    keys = jax.random.split(jax.random.key(0), 4)
    estimate = jax.jit(lambda k: selection.maj_at_k(keys, ids, correct, k, draws=4000))
    for k in (1, 3, 6):
        found = np.asarray(estimate(np.int32(k)))
        np.testing.assert_allclose(found, [exact(row, k) for row in range(4)], atol=0.04)
    np.testing.assert_array_equal(found[[0, 2, 3]], [1, 0, 1])  # all of them: nothing is random
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        selection.maj_at_k(keys, ids, correct, 2, draws=0)


def test_saturation_budgets():
    rng = np.random.default_rng(3)
    p, ceiling, eps = rng.random(200), rng.random(200), 10 ** rng.uniform(-6, 0, 200)
    p[:4], ceiling[:4], eps[:4] = 0.5, 1.0, 0.5 ** np.arange(1, 5)  # exactly at a budget
    with jax.enable_x64(True):
        budget = np.asarray(jax.jit(selection.saturation_budget)(p, ceiling, eps))
        curve = selection.Saturation(p, ceiling, np.zeros(200))
        for i, n in enumerate(budget.tolist()):
            gain = lambda m, i=i: ceiling[i] * p[i] * (1 - p[i]) ** m
            assert gain(n) <= eps[i] * (1 + 1e-12)
            assert n == 0 or gain(n - 1) > eps[i] * (1 - 1e-12)
        np.testing.assert_allclose(
            curve.expected(8) - curve.expected(7), curve.gain(7), rtol=1e-7, atol=1e-15
        )
    assert budget[:4].tolist() == [0, 1, 2, 3]
    edges = jax.jit(selection.saturation_budget)(
        np.array([0.0, 1.0, 1.0, 0.3, 0.3, 0.5]),
        np.array([1.0, 1.0, 0.1, 0.0, 1.0, 0.8]),
        np.array([0.1, 0.1, 0.1, 0.1, 0.0, 0.4]),
    )
    assert edges.tolist() == [0, 1, 0, 0, 2**31 - 1, 0]
    sure = selection.Saturation(*np.array([[1.0], [0.7], [0.0]]))
    np.testing.assert_allclose([sure.expected(0)[0], sure.expected(1)[0]], [0, 0.7], rtol=1e-6)


def test_fitted_curves():
    n = np.array([1, 2, 4, 8, 16, 32])
    p, ceiling = np.array([0.05, 0.3, 0.9, 0.002]), np.array([0.9, 0.6, 0.4, 1.0])
    y = ceiling[:, None] * (1 - (1 - p[:, None]) ** n)
    fit = jax.jit(selection.fit_saturation)
    wide = lambda x: np.broadcast_to(x, y.shape)
    curve = fit(wide(n), y)
    np.testing.assert_allclose(curve.p[:3], p[:3], rtol=5e-3)
    np.testing.assert_allclose(curve.ceiling[:3], ceiling[:3], rtol=5e-3)
    np.testing.assert_allclose(curve.p[3] * curve.ceiling[3], 0.002, rtol=0.05)  # a straight line
    assert (curve.residual < 1e-3).all()
    noisy = y + 0.02 * RNG.normal(size=y.shape)
    noisy[1, 3] = 77.0
    weights = wide(np.ones(6)).copy()
    weights[1, 3] = 0  # left out
    curve = fit(wide(n), noisy, weights)
    near = np.minimum(np.abs(curve.expected(wide(n).T).T - y), np.inf)
    near[1, 3] = 0
    assert near.max() < 0.06
    with pytest.raises(ValueError, match="budgets must lie in"):
        selection.fit_saturation(np.array([0, 1]), np.array([0.1, 0.2]))


def test_budgets_are_matched():
    assert selection.matched_samples(np.array([10, 3, 12]), np.array([3, 7, 4])).tolist() == [
        3,
        1,
        3,
    ]
    direct = np.array([[True, False, False, False], [False] * 4])
    matched = selection.match_budgets(
        np.array([False, True]), np.array([30, 18]), direct, np.full((2, 4), 10)
    )
    assert int(matched.samples) == 2 and bool(matched.enough)
    np.testing.assert_allclose(matched.parallel, [0.5, 0.0])
    assert float(matched.parallel_tokens) == 20 <= float(matched.sequential_tokens) == 24
    dear = selection.match_budgets(
        np.array([False, True]), np.array([99, 99]), direct, np.full((2, 4), 10)
    )
    assert int(dear.samples) == 4 and not bool(dear.enough)
    with pytest.raises(ValueError, match=r"direct must have shape \[2, 4\], got \[2, 3\]"):
        selection.match_budgets(
            np.array([False, True]), np.array([9, 9]), direct[:, :3], np.full((2, 4), 10)
        )


def test_modes():
    scores = np.array([-1.0, 0.2, 0.5, 0.9, np.nan])
    assert selection.choose_mode(scores, 0.5).tolist() == [0, 0, 0, 1, 0]
    modes = selection.choose_mode(scores, [0.0, 0.5])
    assert modes.tolist() == [0, 1, 1, 2, 0]
    prompts = np.arange(3 * 5 * 2).reshape(3, 5, 2)
    lengths = np.arange(15).reshape(3, 5) % 2 + 1
    tokens, length = jax.jit(selection.prompts_of_mode)(prompts, lengths, modes)
    for b, mode in enumerate(modes.tolist()):
        assert tokens[b].tolist() == prompts[mode, b].tolist()
        assert length[b] == lengths[mode, b]
    with pytest.raises(ValueError, match="thresholds must be in rising order, got"):
        selection.choose_mode(scores, [0.5, 0.0])
    with pytest.raises(ValueError, match=r"modes must have shape \[5\], got \[2\]"):
        selection.prompts_of_mode(prompts, lengths, np.array([0, 1]))


def test_prefixes_share_the_samples():
    table = selection.prefix_ensemble([[5, 3], [], [7]], 7, prompts=2)
    assert table.dtype == np.int32
    assert table[:7].tolist() == [[5, 3]] * 3 + [[-1, -1]] * 2 + [[7, -1]] * 2
    np.testing.assert_array_equal(table[7:], table[:7])
    assert selection.prefix_ensemble([[1], [2], [3]], 2).tolist() == [[1], [2]]
    with pytest.raises(ValueError, match="prefixes has no sequence"):
        selection.prefix_ensemble([], 2)
    with pytest.raises(ValueError, match="samples must lie in"):
        selection.prefix_ensemble([[1]], 0)


def test_hedged_temperatures():
    pool = selection.hedged_temperatures(2, 3, [0.5, 0.75])
    assert pool.dtype == np.float32 and pool.tolist() == [0, 0.5, 0.5, 0, 0.75, 0.75]
    assert selection.hedged_temperatures(1, 1).tolist() == [0]
    assert selection.hedged_temperatures(1, 2, 0.5, greedy=0).tolist() == [0.5, 0.5]
    assert selection.of_samples([0.1, 0.2], 2).tolist() == [0.1, 0.2, 0.1, 0.2]
    assert selection.of_samples([[1, 2], [3, 4]], 2).shape == (4, 2)
    for arguments, message in (
        ((2, 3, -1.0), "temperature must be finite and at least 0, got -1.0"),
        ((2, 3, [1.0] * 3), "temperature must be one number or 2"),
        ((0, 3), "prompts must lie in"),
        ((2, 3, 0.5, 4), r"greedy must lie in \[0, 3\], got 4"),
    ):
        with pytest.raises(ValueError, match=message):
            selection.hedged_temperatures(*arguments)
