"""Goodness of fit, for laws that can only be sampled."""

import jax
import numpy as np


def g_test(counts: np.ndarray, probabilities: np.ndarray, smallest: float = 5.0) -> float:
    """The p-value of the likelihood-ratio test that `counts` were drawn from `probabilities`.

        G = 2 sum_i counts_i log(counts_i / expected_i),   chi-squared with cells - 1 degrees of freedom

    Cells whose expectation is below `smallest` are pooled. An observation in a cell of probability zero gives 0.

    Args:
      counts: `[K]` observed.
      probabilities: `[K]`, summing to 1.
      smallest: expectation below which cells are pooled.
    """
    counts, probabilities = np.asarray(counts, np.float64), np.asarray(probabilities, np.float64)
    if (counts[probabilities <= 0] > 0).any():
        return 0.0
    expected = probabilities * counts.sum()
    small = expected < smallest
    counts = np.append(counts[~small], counts[small].sum())
    expected = np.append(expected[~small], expected[small].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    if len(counts) < 2:
        return 1.0
    seen = counts > 0
    g = 2 * float((counts[seen] * np.log(counts[seen] / expected[seen])).sum())
    return float(jax.scipy.special.gammaincc((len(counts) - 1) / 2, max(g, 0.0) / 2))
