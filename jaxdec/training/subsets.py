"""Which part of a training window is visible, and which of the rest is scored.

Three patterns stand for what people ask of an any-subset model: tokens dropped one by one, gaps, and a prefix alone.
Everything here is a pure function of `(seed, step)`, on the host.

Legend: B rows, L tokens of a window, Q scored tokens.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxdec.training import corpus


@dataclasses.dataclass(frozen=True)
class Masking:
    """How visible sets are drawn.

    Attributes:
      start: masking rate of the first step, for tokens dropped one by one.
      rates: the interval of rates after the warm-up; its ends move there linearly from `start`.
      warmup: steps of that warm-up.
      gaps: the interval of rates for rows with 1 to 3 gaps.
      shares: fractions of the rows with tokens dropped one by one, with gaps, and with a visible prefix alone.
      scored: Q, masked tokens that are scored in a row, at most; a random subset of them.
    """

    start: float = 0.5
    rates: tuple[float, float] = (0.05, 1.0)
    warmup: int = 200
    gaps: tuple[float, float] = (0.01, 0.6)
    shares: tuple[float, float, float] = (0.5, 0.3, 0.2)
    scored: int = 256

    def __post_init__(self):
        for low, high in (self.rates, self.gaps, (self.start, self.start)):
            if not 0 < low <= high <= 1:
                raise ValueError(f"masking rates must lie in (0, 1] in order, got {low} and {high}")
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"shares must be fractions that sum to 1, got {self.shares}")
        if self.scored < 1:
            raise ValueError(f"scored must be at least 1, got {self.scored}")


class Subsets(NamedTuple):
    """Windows with their visible sets.

    Attributes:
      tokens: int32 `[B, L]`.
      visible: bool `[B, L]`; at least one token is, and at least one is not.
      scored: int32 `[B, Q]`, positions of masked tokens.
      weights: float32 `[B, Q]`, 1, or 0 past the masked tokens of a row.
    """

    tokens: np.ndarray
    visible: np.ndarray
    scored: np.ndarray
    weights: np.ndarray


def dropped(length: int, rate: float, generator: np.random.Generator) -> np.ndarray:
    """A visible set bool `[L]` that lacks tokens one by one, `floor(L (1 - rate)) + 1` left."""
    left = min(int(length * (1 - rate)) + 1, length - 1)
    visible = np.zeros(length, bool)
    visible[generator.permutation(length)[:left]] = True
    return visible


def with_gaps(length: int, rate: float, generator: np.random.Generator) -> np.ndarray:
    """A visible set bool `[L]` with 1 to 3 gaps that hold about `rate` of the tokens together."""
    masked = int(np.clip(round(length * rate), 1, length - 1))
    gaps = min(int(generator.integers(1, 4)), masked, length - masked)
    cuts = lambda total, parts: np.diff(
        [0, *np.sort(generator.choice(np.arange(1, total), parts - 1, replace=False)), total]
    )
    sizes = cuts(masked, gaps)
    between = cuts(
        length - masked, gaps
    )  # visible tokens before each gap; what is over ends the row
    between[0] = generator.integers(1, between[0] + 1)
    visible = np.ones(length, bool)
    place = 0
    for size, before in zip(sizes, between, strict=True):
        place += before
        visible[place : place + size] = False
        place += size
    return visible


def prefix(length: int, generator: np.random.Generator) -> np.ndarray:
    """A visible set bool `[L]`: the first 1 to L / 2 tokens."""
    return np.arange(length) < generator.integers(1, max(length // 2, 1) + 1)


def draw(
    stream: np.ndarray, masking: Masking, *, batch: int, length: int, seed: int, step: int
) -> Subsets:
    """Windows of a stream with visible sets; rates are stratified over the rows.

    Args:
      stream: integer array `[n]`.
      masking: how sets are drawn.
      batch: B.
      length: L, at least 2.
      seed: of the run.
      step: of the run.

    Raises:
      ValueError: if the stream is shorter than one window, or L is below 2.
    """
    if length < 2:
        raise ValueError(f"a window of {length} tokens has no visible and masked part")
    tokens = corpus.crops(stream, batch=batch, length=length - 1, seed=seed, step=step)
    generator = np.random.default_rng((seed, step, 1))
    done = min(step / max(masking.warmup, 1), 1.0)
    ends = [masking.start + done * (end - masking.start) for end in masking.rates]
    strata = (generator.permutation(batch) + generator.random(batch)) / batch
    kinds = np.searchsorted(np.cumsum(masking.shares)[:2], (np.arange(batch) + 0.5) / batch)
    rows = []
    for stratum, kind in zip(strata, kinds, strict=True):
        if kind == 0:
            rows.append(dropped(length, ends[0] + stratum * (ends[1] - ends[0]), generator))
        elif kind == 1:
            low, high = masking.gaps
            rows.append(with_gaps(length, low + stratum * (high - low), generator))
        else:
            rows.append(prefix(length, generator))
    visible = np.stack(rows)
    scored = np.zeros((batch, masking.scored), np.int32)
    weights = np.zeros((batch, masking.scored), np.float32)
    for row, seen in enumerate(visible):
        chosen = generator.permutation(np.flatnonzero(~seen))[: masking.scored]
        scored[row, : len(chosen)] = chosen
        weights[row, : len(chosen)] = 1
    return Subsets(tokens, visible, scored, weights)
