"""What a decode repeats, and how sure its figures are."""

import numpy as np

from jaxdec.generation import Result


def repeated(result: Result, size: int) -> float:
    """The share of new tokens that end `size` tokens which stand earlier in their row, prompt or output."""
    again, count = 0, 0
    for row, length, start in zip(
        np.asarray(result.tokens), np.asarray(result.lengths), np.asarray(result.prompt_lengths),
        strict=True,
    ):  # fmt: skip
        seen: set[bytes] = set()
        for end in range(size, int(length) + 1):
            gram = row[end - size : end].tobytes()
            if end > start:
                again, count = again + (gram in seen), count + 1
            seen.add(gram)
    return again / count if count else 0.0


def error(result: Result) -> float:
    """The standard error over prompts of tokens a forward, the ratio of their sums."""
    tokens = np.asarray(result.lengths - result.prompt_lengths, float)
    forwards = np.asarray(result.stats.target_forwards, float)
    if len(tokens) < 2:
        return 0.0
    left = tokens - tokens.sum() / forwards.sum() * forwards
    return float(np.sqrt((left**2).sum() / (len(left) - 1) * len(left)) / forwards.sum())
