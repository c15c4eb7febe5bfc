"""RPC: its fit, its pruning, its votes and the two parts of its error."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from jaxdec.search import selection

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(1)
N = 24
ANSWERS = RNG.integers(-1, 4, (6, N))


def of_two_kinds(rows, count):
    """Probabilities of two kinds, as sure and unsure traces have them."""
    sure = RNG.random((rows, count)) < 0.6
    p = np.where(
        sure, 0.8 + 0.03 * RNG.normal(size=sure.shape), 0.4 + 0.08 * RNG.normal(size=sure.shape)
    )
    return np.clip(p, 0.05, 0.99)


VALUES = of_two_kinds(6, N)
fit = jax.jit(selection.weibull_mixture)
confidence = jax.jit(selection.rpc)
consistency = jax.jit(selection.perplexity_consistency)
share_errors = jax.jit(selection.self_consistency_errors)
one_errors = jax.jit(selection.perplexity_errors)
sum_errors = jax.jit(selection.perplexity_consistency_errors)


def loss(x, weight, k1, l1, k2, l2):
    one = lambda k, scale: np.log(k / scale) + (k - 1) * np.log(x / scale) - (x / scale) ** k
    parts = np.stack([np.log(weight) + one(k1, l1), np.log1p(-weight) + one(k2, l2)])
    return -scipy.special.logsumexp(parts, axis=0).mean()


def own_loss(mixture, row, values):
    (k1, k2), (l1, l2) = np.float64(mixture.shapes[row]), np.float64(mixture.scales[row])
    return loss(values, np.float64(mixture.weight[row]), k1, l1, k2, l2)


def test_the_fit_is_that_of_an_optimiser():
    mixture = fit(np.log(VALUES), np.ones((6, N), bool))
    for row, x in enumerate(VALUES[:3]):
        free = lambda u, x=x: loss(x, *u)
        limits = [(0.2, 0.8), *[(0.01, None)] * 4]
        best = scipy.optimize.minimize(free, (0.5, 1, 1, 1.5, 2), bounds=limits, method="L-BFGS-B")
        ours = own_loss(mixture, row, x)
        np.testing.assert_allclose(mixture.loss[row], ours, rtol=1e-4, atol=1e-5)
        assert ours < best.fun + 1e-3
        shapes, scales = mixture.shapes[row].tolist(), mixture.scales[row].tolist()
        means = [s * math.gamma(1 + 1 / k) for k, s in zip(shapes, scales, strict=True)]
        assert means[0] >= means[1]
        assert 0.2 <= mixture.weight[row] <= 0.8


def test_values_that_do_not_count_are_not_read():
    valid = np.arange(N) < np.array([N, N - 7, N - 1, N, 5, 0])[:, None]
    found = fit(np.where(valid, np.log(VALUES), np.nan), valid)
    again = fit(np.where(valid, np.log(VALUES), -3.0), valid)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    for row in range(3):
        np.testing.assert_allclose(
            found.loss[row], own_loss(found, row, VALUES[row][valid[row]]), rtol=1e-4
        )
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        selection.weibull_mixture(VALUES, steps=0)


def test_pruning():
    log_probs = np.log(np.concatenate([VALUES, of_two_kinds(6, N)]))
    # Improbable ones are so scattered that the most probable of all are likelier theirs than those of a narrow kind.
    log_probs[4] = np.log(np.r_[np.linspace(0.1, 0.97, 10), np.linspace(0.695, 0.705, N - 10)])
    # And a few so improbable that the mean lies among the probable ones.
    log_probs[5] = np.log(np.r_[[0.1, 0.12, 0.15, 0.18, 0.2], np.linspace(0.6, 0.9, N - 5)])
    log_probs[3, 5:9] = log_probs[3, 5]  # equal ones stand or fall together
    log_probs[7] = -0.25
    log_probs[8] = -0.25 + 1e-6 * RNG.normal(size=N)
    log_probs[9, :-1] = -np.inf
    log_probs[10] = np.nan
    log_probs[11] = -400 - RNG.random(N)  # below the range of float32
    ids = np.zeros((6, N), int)
    kept = np.concatenate([confidence(part, ids).kept for part in np.split(log_probs, 2)])
    p = np.exp(log_probs)
    for row in range(7):
        mean = p[row].mean()
        assert kept[row][p[row] >= mean * (1 + 1e-6)].all()
        assert not kept[row].all() or row == 3
    mixture = fit(log_probs[:6], np.ones((6, N), bool))
    rescued, probable = set(), set()
    for row in range(6):
        (k1, k2), (l1, l2) = np.float64(mixture.shapes[row]), np.float64(mixture.scales[row])
        weight = np.float64(mixture.weight[row])
        log_pdf = lambda k, s, x=p[row]: np.log(k / s) + (k - 1) * np.log(x / s) - (x / s) ** k
        margin = np.log(weight) + log_pdf(k1, l1) - np.log1p(-weight) - log_pdf(k2, l2)
        clear = np.abs(margin) > 1e-2
        np.testing.assert_array_equal(
            kept[row][clear], ~((margin < 0) & (p[row] < p[row].mean()))[clear]
        )
        above = p[row] >= p[row].mean()
        rescued |= {*np.flatnonzero(clear & (margin < 0) & above)}
        probable |= {*np.flatnonzero(clear & (margin > 0) & ~above)}
    assert rescued and probable  # both halves of the rule were needed
    assert len({*kept[3, 5:9].tolist()}) == 1
    assert kept[7].all() and kept[8].all()
    assert kept[9].tolist() == [False] * (N - 1) + [True]
    assert not kept[10].any()
    assert kept[11].all()
    # One of the two components holds the sure traces: about as many as there are survive.
    assert 0.4 < kept[:3].mean() < 0.8


def test_equal_probabilities_are_a_majority():
    log_probs = np.full(ANSWERS.shape, -0.3)
    found, majority = confidence(log_probs, ANSWERS), jax.jit(selection.vote)(ANSWERS)
    np.testing.assert_array_equal(found.winner, majority.winner)
    np.testing.assert_array_equal(found.answer, majority.answer)
    assert found.kept.all()
    share = np.asarray(majority.totals) / (ANSWERS >= 0).sum(1, keepdims=True)
    np.testing.assert_allclose(found.confidences, share, rtol=1e-5)


def test_completions_count_once():
    completions = RNG.integers(0, 9, ANSWERS.shape)
    kept = RNG.random(ANSWERS.shape) < 0.7
    ids = np.where(completions == 8, -1, completions % 3)  # one text has one answer
    p = np.take_along_axis(VALUES, completions, 1)  # and one probability
    found = consistency(np.log(p), ids, completions, kept)
    for row in range(len(ids)):
        texts = {int(c): i for i, c in reversed([*enumerate(completions[row])]) if kept[row, i]}
        mass = np.zeros(3)
        for i in texts.values():
            mass[ids[row, i]] += p[row, i] * (ids[row, i] >= 0)
        np.testing.assert_allclose(
            found.confidences[row],
            np.where(ids[row] >= 0, mass[ids[row]] / mass.sum(), 0),
            rtol=1e-5,
        )
        assert found.answer[row] == mass.argmax()
        assert ids[row, int(found.winner[row])] == found.answer[row]
    # In another order the same answers have the same confidence.
    order = RNG.permutation(N)
    moved = consistency(np.log(p)[:, order], ids[:, order], completions[:, order], kept[:, order])
    np.testing.assert_allclose(
        moved.confidences, np.asarray(found.confidences)[:, order], rtol=1e-5
    )


def test_improbable_answers_are_not_heard():
    """Many improbable traces of one answer, few probable ones of another: the vote and RPC part."""
    log_probs = np.log(np.r_[0.9 - 0.01 * np.arange(5), 0.15 + 0.004 * np.arange(19)])
    ids = np.r_[np.zeros(5, int), np.ones(19, int)]
    batch = lambda x: np.repeat(x[None], 6, 0)
    assert int(selection.vote(ids).answer) == 1
    found = confidence(batch(log_probs), batch(ids))
    assert (found.answer == 0).all()
    assert found.kept[0].tolist() == [True] * 5 + [False] * 19
    # If the survivors say nothing, all are heard; if nobody says anything, nothing wins.
    mute = np.stack([np.r_[np.full(5, -1), np.ones(19, int)], np.full(N, -1), *[ids] * 4])
    found = confidence(batch(log_probs), mute)
    assert found.answer.tolist() == [1, -1, 0, 0, 0, 0]
    assert found.winner[1] == -1 and not found.confidences[1].any()


def test_prompts_do_not_know_one_another():
    whole = confidence(np.log(VALUES), ANSWERS)
    order = np.array([3, 1, 5, 0, 2, 4])
    moved = confidence(np.log(VALUES)[order], ANSWERS[order])
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(moved), strict=True):
        np.testing.assert_array_equal(np.asarray(one)[order], other)


def test_mean_log_probs():
    log_probs = np.arange(12.0).reshape(2, 6)
    found = selection.mean_log_probs(log_probs, np.array([2, 3]), np.array([5, 3]))
    assert found.tolist() == [3.0, -np.inf]
    with pytest.raises(ValueError, match=r"lengths must have shape \[2\], got \[1\]"):
        selection.mean_log_probs(log_probs, np.array([2, 3]), np.array([5]))


PATHS = np.array([0.3, 0.15, 0.05, 0.25, 0.2, 0.05])
OF_ANSWER = np.array([0, 0, 0, 1, 1, 2])


@pytest.mark.parametrize("n", [1, 3])
def test_errors_are_those_of_all_samples(n):
    """Every tuple of n completions, with its probability."""
    rules = {"share": 0.0, "one": 0.0, "sum": 0.0}
    truth = np.array([[False], [True]])
    for drawn in itertools.product(range(6), repeat=n):
        weight = math.prod(PATHS[i] for i in drawn)
        seen = np.isin(np.arange(6), drawn)
        share = np.array([np.mean(OF_ANSWER[list(drawn)] == a) for a in range(3)])
        mass = np.array([(PATHS * seen)[a == OF_ANSWER].sum() for a in range(3)])
        for name, estimate in (("share", share), ("one", PATHS * seen), ("sum", mass)):
            rules[name] = rules[name] + weight * (estimate - truth) ** 2
    answers = np.array([PATHS[a == OF_ANSWER].sum() for a in range(3)])
    completions = np.where(np.arange(3)[:, None] == OF_ANSWER, PATHS, 0)
    both = lambda x: np.broadcast_to(x, (2, *x.shape))
    with jax.enable_x64(True):
        flags = lambda size: np.broadcast_to(truth, (2, size))
        n = np.int32(n)
        found = {
            "share": share_errors(both(answers), flags(3), n),
            "one": one_errors(both(PATHS), flags(6), n),
            "sum": sum_errors(both(completions), flags(3), n),
        }
        for name, errors in found.items():
            np.testing.assert_allclose(errors.total, rules[name], rtol=1e-12, err_msg=name)
        for name, p in (("share", answers), ("one", PATHS), ("sum", answers)):
            np.testing.assert_allclose(found[name].model, (p - truth) ** 2, rtol=1e-12)


def test_what_more_samples_mend():
    p = jnp.full(3, 0.4)
    correct = np.ones(3, bool)
    n = np.array([1, 10, 100])
    share = share_errors(p, correct, n)
    summed = sum_errors(np.full((3, 2), 0.2), correct, n)
    np.testing.assert_allclose(share.model, summed.model, rtol=1e-6)
    np.testing.assert_allclose(share.estimation, 0.24 / n, rtol=1e-5)  # as 1 / n
    assert summed.estimation[2] < 1e-7 < share.estimation[2]  # exponentially
