"""Probes of the order in which a canvas was filled, against counting."""

import itertools

import jax
import numpy as np
import pytest

from jaxdec.measuring.autoregressiveness import global_autoregressiveness, local_autoregressiveness

local, far = (
    jax.jit(f, static_argnums=1) for f in (local_autoregressiveness, global_autoregressiveness)
)


def twins(steps, k):
    """Both shares of one row, counted."""
    places = [i for i, step in enumerate(steps) if step >= 0]
    order = sorted(range(len(places)), key=lambda n: (steps[places[n]], n))
    windows = [order[i : i + k] for i in range(len(order) - k + 1)]
    rows = [all(b == a + 1 for a, b in itertools.pairwise(w)) for w in windows]
    leftmost = [p in sorted(order[i:])[:k] for i, p in enumerate(order)]
    mean = lambda found: np.mean(found) if found else np.nan
    return mean(rows), mean(leftmost)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_counting(k):
    """Ragged rows: prompts, gaps that were given, several a step, unfilled positions, nothing at all."""
    rng = np.random.default_rng(k)
    steps = rng.integers(0, 9, (12, 11))
    steps[2:6] = np.argsort(rng.random((4, 11)))
    steps[rng.random(steps.shape) < 0.2] = -1
    steps[6:9] = np.sort(steps[6:9], axis=1)
    steps[9] = -1
    steps[10, 2:] = -1
    expected = np.array([twins(row.tolist(), k) for row in steps]).T
    np.testing.assert_allclose(local(steps, k), expected[0], rtol=1e-6)
    np.testing.assert_allclose(far(steps, k), expected[1], rtol=1e-6)
    alone = np.asarray(local(steps[3, :7], k))
    np.testing.assert_allclose(alone, twins(steps[3, :7].tolist(), k)[0], rtol=1e-6)


def test_from_left_to_right_and_back():
    steps = np.array([[-1, -1, *range(8)], [-1, -1, *range(8)[::-1]], [-1, -1, *[0] * 8]])
    np.testing.assert_allclose(local(steps, 3), [1, 0, 1])
    np.testing.assert_allclose(far(steps, 3), [1, 3 / 8, 1])


def test_bad_arguments():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        local_autoregressiveness(np.zeros((2, 3), int), 0)
    with pytest.raises(ValueError, match=r"integers \[..., L\], got float32 of shape \[2\]"):
        global_autoregressiveness(np.zeros(2, np.float32), 1)
    with pytest.raises(ValueError, match="k must be an integer"):
        global_autoregressiveness(np.zeros(2, int), 1.5)
