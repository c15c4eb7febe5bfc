"""Which tokens of a training window a diffusion model has to restore.

Every window is used twice, with a set of masked tokens and with the complement of that set: each token is predicted
once, from two kinds of context that together cover every rate. Everything here is a pure function of `(seed, step)`,
on the host.

Legend: B rows, L tokens of a window.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxdec.training import corpus
from jaxdec.training.tasks import Canvases


@dataclasses.dataclass(frozen=True)
class Noising:
    """How windows are masked.

    Attributes:
      blocks: sizes of the blocks of a block-diffusion model; empty for one canvas that sees itself whole.
      shares: fractions of the rows with each block size.
      prompts: for a whole canvas, the fraction of rows that keep a prefix of 1 to L / 2 tokens clean.
      rates: the interval of masking rates, one rate a block (or canvas), stratified.
    """

    blocks: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    prompts: float = 0.5
    rates: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        low, high = self.rates
        if not 0 <= low < high <= 1:
            raise ValueError(f"masking rates must lie in [0, 1] in order, got {low} and {high}")
        if not 0 <= self.prompts <= 1:
            raise ValueError(f"prompts must lie in [0, 1], got {self.prompts}")
        if any(block < 1 for block in self.blocks):
            raise ValueError(f"block sizes must be at least 1, got {self.blocks}")
        if len(self.blocks) != len(self.shares) or min(self.shares, default=0) < 0:
            raise ValueError(f"each of the blocks {self.blocks} needs a share, got {self.shares}")
        if self.blocks and abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"shares must be fractions that sum to 1, got {self.shares}")


class Noised(NamedTuple):
    """Windows with their masked sets.

    Attributes:
      tokens: int32 `[B, L]`.
      first: bool `[B, L]`, what the first use of a window masks.
      second: bool `[B, L]`, what its second use masks.
      rates: float32 `[B, L]`, the rate at which `first` masked each token; that of `second` is one minus it.
      blocks: int32 `[B, 1]`, the size of the row's blocks; L for a whole canvas.
      positions: int32 `[B, L]`, of each token in its canvas; None for windows that are one canvas each.
      canvases: int32 `[B, L]`, which canvas of the window a token stands on; None likewise.
    """

    tokens: np.ndarray
    first: np.ndarray
    second: np.ndarray
    rates: np.ndarray
    blocks: np.ndarray
    positions: np.ndarray | None = None
    canvases: np.ndarray | None = None


def draw(
    stream: np.ndarray, noising: Noising, *, batch: int, length: int, seed: int, step: int
) -> Noised:
    """Windows of a stream, masked; rates are stratified over all blocks of the batch.

    Args:
      stream: integer array `[n]`.
      noising: how windows are masked.
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
    return mask(tokens, noising, np.random.default_rng((seed, step, 2)))


def mask_canvases(held: Canvases, noising: Noising, generator: np.random.Generator) -> Noised:
    """Draws masked sets for what stands behind the prompts of canvases; one rate a canvas, or a block of one.

    Args:
      held: windows of canvases.
      noising: how they are masked; `prompts` says nothing here.
      generator: of the draws.
    """
    batch, length = held.tokens.shape
    blocks = _block_sizes(noising, batch, length, generator)
    low, high = noising.rates
    keys = (np.arange(batch)[:, None] * length + held.numbers) * length + held.positions // blocks
    _, which = np.unique(keys, return_inverse=True)
    which = which.reshape(keys.shape)
    count = int(which.max()) + 1
    strata = (generator.permutation(count) + generator.random(count)) / count
    rates = (low + (high - low) * strata)[which]
    chosen = generator.random(held.tokens.shape) < rates
    return Noised(
        tokens=held.tokens,
        first=chosen & held.open,
        second=~chosen & held.open,
        rates=rates.astype(np.float32),
        blocks=blocks.astype(np.int32),
        positions=held.positions,
        canvases=held.numbers,
    )


def _block_sizes(
    noising: Noising, batch: int, length: int, generator: np.random.Generator
) -> np.ndarray:
    """Of each row, int `[B, 1]`; L where there are none."""
    if not noising.blocks:
        return np.full((batch, 1), length)
    # A fractional part moves along, so that small shares get rows in some steps.
    at = (np.arange(batch) + generator.random()) / batch
    kinds = np.searchsorted(np.cumsum(noising.shares)[:-1], at, side="right")
    return np.asarray(noising.blocks)[kinds][:, None]


def mask(tokens: np.ndarray, noising: Noising, generator: np.random.Generator) -> Noised:
    """Draws masked sets for windows `[B, L]`."""
    batch, length = tokens.shape
    places = np.arange(length)
    blocks = _block_sizes(noising, batch, length, generator)
    if noising.blocks:
        open_from = np.zeros((batch, 1), int)
    else:
        prefixed = generator.random(batch) < noising.prompts
        cut = generator.integers(1, max(length // 2, 1) + 1, batch)
        open_from = np.where(prefixed, cut, 0)[:, None]
    # One rate a block, stratified over the rows; each next block of a row turns its rate by a golden section.
    strata = (generator.permutation(batch) + generator.random(batch))[:, None] / batch
    low, high = noising.rates
    rates = low + (high - low) * ((strata + 0.6180339887 * (places // blocks)) % 1)
    open_ = places >= open_from
    chosen = generator.random(tokens.shape) < rates
    return Noised(
        tokens=tokens,
        first=chosen & open_,
        second=~chosen & open_,
        rates=rates.astype(np.float32),
        blocks=blocks.astype(np.int32),
    )
