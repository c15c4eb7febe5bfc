"""A row of logits in the memory of a TPU, and its law.

A row of V logits lies in VMEM as `[8, lanes]`, token v at sublane v // lanes, so that whole registers are used.

Legend: V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels.laws import TINY

SUBLANES = 8
LANES = 128


def block_shape(vocab_size: int) -> tuple[int, int]:
    """Lanes of a row in VMEM, and those that are worked on at a time.

    Four registers hide the latency of the vector unit and leave room for what is carried; a small vocabulary is one
    block.
    """
    block = min(4 * LANES, pl.cdiv(vocab_size, SUBLANES * LANES) * LANES)
    return pl.cdiv(vocab_size, SUBLANES * block) * block, block


class Law(NamedTuple):
    """What makes logits log-probabilities, `(allowed - top) / temperature - total`; all `[1, 1]`.

    Attributes:
      top: the largest allowed logit.
      total: see above.
      raw_total: `raw - raw_total` are the log-probabilities of the logits alone.
      broken: whether there is no law: a logit is NaN or +inf, or no token is left.
    """

    top: jax.Array
    total: jax.Array
    raw_total: jax.Array
    broken: jax.Array


class Row:
    """A row of logits in VMEM, and the settings that its law depends on.

    Attributes:
      at: float32 `[8, lanes]`, the logits; arbitrary past the vocabulary.
      bias: float32 `[8, lanes]`, -inf at banned tokens; None for none.
      vocab_size: V.
      greedy: bool, whether the temperature is 0.
      temperature: float32; 1 for a greedy row.
    """

    def __init__(self, at, bias, vocab_size, temperature):
        self.at, self.bias, self.vocab_size = at, bias, vocab_size
        self.greedy = temperature < TINY  # subnormal ones too, which some devices flush
        self.temperature = jnp.where(self.greedy, 1.0, temperature)

    def blocks(self, body, start):
        """Carries `start` through `body(carry, here, tokens)`: lanes of a block, and the tokens `[8, block]` there."""
        lanes, block = block_shape(self.vocab_size)
        index = lambda axis: jax.lax.broadcasted_iota(jnp.int32, (SUBLANES, block), axis)

        def step(i, carry):
            first = pl.multiple_of(i * block, block)
            return body(carry, pl.ds(first, block), index(0) * lanes + index(1) + first)

        return jax.lax.fori_loop(0, lanes // block, step, start)

    def full(self, value, dtype=jnp.float32):
        """One block of a value."""
        return jnp.full((SUBLANES, block_shape(self.vocab_size)[1]), value, dtype)

    def logits(self, here, tokens):
        """The logits of a block, and those without banned tokens; -inf past the vocabulary."""
        raw = jnp.where(tokens < self.vocab_size, self.at[:, here], -jnp.inf)
        return raw, raw if self.bias is None else raw + self.bias[:, here]

    def law(self) -> Law:
        """The law of the logits."""

        def highest(tops, here, tokens):
            return tuple(map(jnp.maximum, tops, self.logits(here, tokens)))

        low, none = self.full(-jnp.inf), self.full(0.0)
        raw_top, top = (most(x) for x in self.blocks(highest, (low, low)))

        def added(sums, here, tokens):
            raw, allowed = self.logits(here, tokens)
            shifted = raw - raw_top, (allowed - top) / self.temperature
            return tuple(x + jnp.exp(y) for x, y in zip(sums, shifted, strict=True))

        raw_sum, allowed_sum = (total(x) for x in self.blocks(added, (none, none)))
        # NaN - NaN, inf - inf and -inf + inf are NaN, and so is then the sum.
        broken = ~((raw_sum < jnp.inf) & (allowed_sum < jnp.inf))
        return Law(top, jnp.log(allowed_sum), raw_top + jnp.log(raw_sum), broken)

    def log_probs(self, here, tokens, law: Law):
        """Log-probabilities of a block; of a greedy row those at temperature 1."""
        _, allowed = self.logits(here, tokens)
        return (allowed - law.top) / self.temperature - law.total

    def argmax(self, score):
        """The first token of the largest `score(here, tokens)`, int32 `[1, 1]`."""

        def better(best, here, tokens):
            value = score(here, tokens)
            wins = value > best[0]  # strictly: of equals the first block's stays
            return jnp.where(wins, value, best[0]), jnp.where(wins, tokens, best[1])

        value, tokens = self.blocks(better, (self.full(-jnp.inf), self.full(0, jnp.int32)))
        return jnp.min(
            jnp.where(value == most(value), tokens, self.vocab_size), axis=(0, 1), keepdims=True
        )

    def chances(self, token, law: Law):
        """The log-probability and the raw one of a token that can be drawn, scalars."""
        logit = pick(self.at, token)
        log_prob = jnp.where(self.greedy, 0.0, (logit - law.top) / self.temperature - law.total)
        both = log_prob, logit - law.raw_total
        return tuple(jnp.where(law.broken, jnp.nan, x)[0, 0] for x in both)


def pick(row, token):
    """The entry of a token, a scalar, in a row `[8, lanes]`; `[1, 1]`."""
    lanes = row.shape[1]
    sublane, lane = jax.lax.div(token, lanes), jax.lax.rem(token, lanes)
    first = pl.multiple_of(jax.lax.div(lane, LANES) * LANES, LANES)
    index = lambda axis: jax.lax.broadcasted_iota(jnp.int32, (SUBLANES, LANES), axis)
    here = (index(0) == sublane) & (index(1) == lane - first)
    return total(jnp.where(here, row[:, pl.ds(first, LANES)], 0.0))


def most(x):
    """The largest entry, `[1, 1]`."""
    return jnp.max(x, axis=(0, 1), keepdims=True)


def total(x):
    """The sum, `[1, 1]`."""
    return jnp.sum(x, axis=(0, 1), keepdims=True)


def copy_row(source, target, semaphore):
    """Copies a row `[1, V]` in HBM to `[8, lanes]` in VMEM."""
    lanes, width = target.shape[1], source.shape[1]
    copies = []
    for sublane in range(pl.cdiv(width, lanes)):
        size = min(lanes, width - sublane * lanes)
        piece = source.at[:, pl.ds(sublane * lanes, size)]
        place = target.at[pl.ds(sublane, 1), pl.ds(0, size)]
        copies.append(pltpu.make_async_copy(piece, place, semaphore))
    for copy in copies:
        copy.start()
    for copy in copies:
        copy.wait()
