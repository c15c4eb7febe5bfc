"""Verification of draft trees on a GPU.

A walk has no parallelism but that of the vocabulary, too little for a GPU: the token after every scored token is drawn
at once, each piece of a row of logits by a program of its own, and the walk follows them.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth, V vocabulary, P pieces of the vocabulary.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from pallas_kernels.noise import gumbel, key_words
from pallas_kernels.verify.reference import Walked, at, depths, follow

_TINY = float(jnp.finfo(jnp.float32).tiny)
_PARTS = (jnp.float32,) * 6 + (jnp.int32,)


def piece_size(vocab_size: int) -> int:
    """Tokens of a piece, a power of two: 32 for each of 128 threads, which stay in registers through all passes."""
    return min(4096, pl.next_power_of_2(vocab_size))


def walk(logits, tokens, parents, mask, keys, temperature, banned, noise, *, depth: int) -> Walked:
    """See `pallas_kernels.verify.walk`."""
    del noise  # made in the kernel
    words = at(key_words(keys), depths(parents, depth))
    found = draw(logits, words, temperature, banned)
    return follow(*found, tokens, parents, mask, depth)


def draw(
    logits: jax.Array, words: jax.Array, temperature: jax.Array, banned: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws the token after each scored token.

    Args:
      logits: float32 `[B, T, V]`.
      words: uint32 `[B, T, 2]`, of the key of each draw.
      temperature: float32 `[B]`.
      banned: bool `[B, V]` or None.

    Returns:
      Token int32, log-probability and raw log-probability float32, `[B, T]`.
    """
    batch, scored, vocab_size = logits.shape
    size = piece_size(vocab_size)
    grid = (batch, scored, pl.cdiv(vocab_size, size))
    tables = [] if banned is None else [banned]
    parts = pl.pallas_call(
        functools.partial(_kernel, banned=banned is not None, size=size),
        grid=grid,
        out_shape=[jax.ShapeDtypeStruct(grid, dtype) for dtype in _PARTS],
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=1),
        cost_estimate=pl.CostEstimate(
            flops=270 * logits.size, transcendentals=4 * logits.size, bytes_accessed=logits.nbytes
        ),
        name="verify_draw",
    )(temperature, words, logits, *tables)
    return _joined(parts, temperature)


def _kernel(temperature, words, logits, *refs, banned: bool, size: int):
    """A piece of the law after one scored token; see `_joined` for what it gives."""
    out = refs[banned:]
    row, scored, piece = pl.program_id(0), pl.program_id(1), pl.program_id(2)
    vocab_size = logits.shape[2]
    tokens = piece * size + jnp.arange(size)
    inside = tokens < vocab_size
    tokens = jnp.minimum(tokens, vocab_size - 1)  # addressed inside of the array, and masked
    raw = plgpu.load(logits.at[row, scored, tokens], mask=inside, other=-jnp.inf)
    allowed = raw
    if banned:
        removed = plgpu.load(refs[0].at[row, tokens], mask=inside, other=True)
        allowed = jnp.where(removed, -jnp.inf, raw)
    greedy = temperature[row] < _TINY
    divisor = jnp.where(greedy, 1.0, temperature[row])
    raw_top, top = jnp.max(raw), jnp.max(allowed)
    # A piece may hold no token that is left; then nothing is to be shifted.
    raw_shift, shift = (jnp.where(x == -jnp.inf, 0.0, x) for x in (raw_top, top))
    shifted = (allowed - shift) / divisor

    def perturbed():
        first, second = words[row, scored, 0], words[row, scored, 1]
        return shifted + gumbel(first, second, tokens.astype(jnp.uint32), vocab_size)

    value = jax.lax.cond(greedy, lambda: allowed, perturbed)
    best = jnp.max(value)
    token = jnp.min(jnp.where(value == best, tokens, vocab_size - 1))
    logit = jnp.max(jnp.where(tokens == token, raw, -jnp.inf))
    sums = jnp.sum(jnp.exp(raw - raw_shift)), jnp.sum(jnp.exp(shifted))
    found = (raw_top, sums[0], top, sums[1], best, logit, token)
    for target, part in zip(out, found, strict=True):
        target[row, scored, piece] = part


def _joined(parts, temperature):
    """The draws, from what the kernel found in each piece `[B, T, P]`.

    That is the largest logit and the sum of exponentials relative to it; the same of allowed logits over the
    temperature; the best perturbed value relative to the latter, or at temperature 0 the allowed logit itself; the raw
    logit of the best token, and that token.
    """
    raw_top, raw_sum, top, sum_, best, logit, token = parts
    temperature = temperature[:, None]
    greedy = temperature < _TINY
    divisor = jnp.where(greedy, 1.0, temperature)

    def joined(top, sum_, divisor):
        whole = jnp.max(top, axis=-1, keepdims=True)
        apart = (top - whole) / divisor[..., None]
        return whole[..., 0], apart, (sum_ * jnp.exp(apart)).sum(-1)

    whole, apart, total = joined(top, sum_, divisor)
    raw_whole, _, raw_total = joined(raw_top, raw_sum, jnp.ones_like(divisor))
    # NaN - NaN, inf - inf and -inf + inf are NaN, and so are then the sums.
    broken = ~((total < jnp.inf) & (raw_total < jnp.inf))
    first = jnp.argmax(jnp.where(greedy[..., None], best, best + apart), axis=-1)[..., None]
    pick = lambda values: jnp.take_along_axis(values, first, axis=-1)[..., 0]
    log_prob = (pick(logit) - whole) / divisor - jnp.log(total)
    log_prob = jnp.where(broken, jnp.nan, jnp.where(greedy, 0.0, log_prob))
    raw_log_prob = pick(logit) - raw_whole - jnp.log(raw_total)
    return jnp.where(broken, 0, pick(token)), log_prob, raw_log_prob
