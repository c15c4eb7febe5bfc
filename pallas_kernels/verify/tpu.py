"""Verification of draft trees on a TPU.

The logits stay in HBM. A program walks down the tree of one row: it copies the logits after the current token to VMEM,
finds the token that follows, and looks in scalar memory for the child that carries it. Rows of the tree off the path
are never read.

A row of V logits lies in VMEM as `[8, lanes]`, token v at sublane v // lanes, so that whole registers are used.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels.noise import gumbel, key_words
from pallas_kernels.verify.reference import Walked

_SUBLANES = 8
_LANES = 128
_TINY = float(jnp.finfo(jnp.float32).tiny)


def block_shape(vocab_size: int) -> tuple[int, int]:
    """Lanes of a row of logits in VMEM, and those that are worked on at a time.

    Four registers hide the latency of the vector unit and leave room for what is carried; a smaller vocabulary is one
    block. Lanes past the vocabulary cost less than 1 / 8 of a block a register.
    """
    block = min(4 * _LANES, pl.cdiv(vocab_size, _SUBLANES * _LANES) * _LANES)
    return pl.cdiv(vocab_size, _SUBLANES * block) * block, block


class Row:
    """A row of logits in VMEM, and the settings that its law depends on.

    Attributes:
      at: float32 `[8, lanes]`, the logits; arbitrary past the vocabulary.
      semaphore: of copies to it.
      bias: float32 `[8, lanes]`, -inf at banned tokens; None for none.
      vocab_size: V.
      greedy: bool, whether the temperature is 0.
      temperature: float32; 1 for a greedy row.
    """

    def __init__(self, at, semaphore, bias, vocab_size, temperature):
        self.at, self.semaphore, self.bias, self.vocab_size = at, semaphore, bias, vocab_size
        self.greedy = temperature < _TINY  # subnormal ones too, which some devices flush
        self.temperature = jnp.where(self.greedy, 1.0, temperature)

    def fold(self, body, start):
        """Carries `start` through `body(carry, here, tokens, raw, allowed)` over the blocks of the vocabulary.

        `here` are the lanes of a block and `tokens` int32 `[8, block]` what stands there. `raw` are logits, `allowed`
        those without banned tokens; both are -inf past the vocabulary.
        """
        lanes, block = block_shape(self.vocab_size)
        index = lambda axis: jax.lax.broadcasted_iota(jnp.int32, (_SUBLANES, block), axis)

        def step(i, carry):
            first = pl.multiple_of(i * block, block)
            here = pl.ds(first, block)
            tokens = index(0) * lanes + index(1) + first
            raw = jnp.where(tokens < self.vocab_size, self.at[:, here], -jnp.inf)
            allowed = raw if self.bias is None else raw + self.bias[:, here]
            return body(carry, here, tokens, raw, allowed)

        return jax.lax.fori_loop(0, lanes // block, step, start)

    def full(self, value, dtype=jnp.float32):
        """One block of a value."""
        return jnp.full((_SUBLANES, block_shape(self.vocab_size)[1]), value, dtype)

    def law(self):
        """What makes logits log-probabilities, all `[1, 1]`.

        Returns:
          top: the largest allowed logit; `(allowed - top) / temperature - total` are the log-probabilities.
          total: see there.
          raw_total: `raw - raw_total` are those of the logits alone.
          broken: whether there are none: a logit is NaN or +inf, or no token is left.
        """
        low = self.full(-jnp.inf)
        highest = lambda tops, _, tokens, raw, allowed: (
            jnp.maximum(tops[0], raw),
            jnp.maximum(tops[1], allowed),
        )
        raw_top, top = (_most(x) for x in self.fold(highest, (low, low)))
        none = self.full(0.0)
        added = lambda sums, _, tokens, raw, allowed: (
            sums[0] + jnp.exp(raw - raw_top),
            sums[1] + jnp.exp((allowed - top) / self.temperature),
        )
        raw_sum, sum_ = (_sum(x) for x in self.fold(added, (none, none)))
        # NaN - NaN, inf - inf and -inf + inf are NaN, and so is then the sum.
        broken = ~((raw_sum < jnp.inf) & (sum_ < jnp.inf))
        return top, jnp.log(sum_), raw_top + jnp.log(raw_sum), broken

    def draw(self, first, second):
        """Draws with the key of these words: token int32, log-probability and raw log-probability, scalars."""
        top, total, raw_total, broken = self.law()

        def perturbed(tokens, allowed):
            noise = gumbel(first, second, tokens.astype(jnp.uint32), self.vocab_size)
            return (allowed - top) / self.temperature - total + noise

        def better(best, _, tokens, raw, allowed):
            value = jax.lax.cond(self.greedy, lambda *x: allowed, perturbed, tokens, allowed)
            wins = value > best[0]  # strictly: of equals the first block's stays
            return tuple(
                jnp.where(wins, new, old)
                for new, old in zip((value, tokens, raw), best, strict=True)
            )

        low = self.full(-jnp.inf)
        value, tokens, raw = self.fold(better, (low, self.full(0, jnp.int32), low))
        best = value == _most(value)
        token = _least(jnp.where(best, tokens, self.vocab_size))
        logit = _most(jnp.where(best & (tokens == token), raw, -jnp.inf))
        log_prob = jnp.where(self.greedy, 0.0, (logit - top) / self.temperature - total)
        mended = jnp.where(broken, 0, token)  # as the argmax of NaN
        log_prob, raw_log_prob = (
            jnp.where(broken, jnp.nan, x) for x in (log_prob, logit - raw_total)
        )
        return mended[0, 0], log_prob[0, 0], raw_log_prob[0, 0]


def _most(x):
    return jnp.max(x, axis=(0, 1), keepdims=True)


def _least(x):
    return jnp.min(x, axis=(0, 1), keepdims=True)


def _sum(x):
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


def _walk_kernel(
    tokens, parents, mask, keys, temperature, *refs, banned: bool, depth: int, vocab_size: int
):
    """Walks down the tree of one row; arguments as for `walk`, of that row, words of keys in a line."""
    bias = refs[0].at[0] if banned else None
    logits, path, count, next_token, log_probs, raw_log_probs, alive, at, semaphore = refs[banned:]
    nodes, batch_row = tokens.shape[-1], pl.program_id(0)
    row = Row(at, semaphore, bias, vocab_size, temperature[0, 0, 0])

    # Siblings of one token are followed side by side: `alive` holds the depth of scored tokens that agree so far. All
    # at one depth have the same tokens before them, hence the same law: that after the first of them is read.
    def forget(scored, _):
        alive[scored] = jnp.where(scored == 0, 0, -1)
        return _

    def visit(state):
        level, _, scored = state
        copy_row(logits.at[batch_row, pl.ds(scored, 1)], at, semaphore)
        token, log_prob, raw_log_prob = row.draw(keys[0, 0, 2 * level], keys[0, 0, 2 * level + 1])
        next_token[0, 0, 0] = token
        log_probs[0, 0, level] = log_prob
        raw_log_probs[0, 0, level] = raw_log_prob

        def follow(node, first):
            agrees = (alive[parents[0, 0, node] + 1] == level) & (tokens[0, 0, node] == token)
            agrees &= mask[0, 0, node] != 0
            alive[node + 1] = jnp.where(agrees, level + 1, alive[node + 1])
            return jnp.where(agrees & (first < 0), node + 1, first)

        # Also stops at a tree that is deeper than was said.
        first = jax.lax.fori_loop(0, jnp.where(level < depth, nodes, 0), follow, -1)
        return level + 1, scored, first

    def climb(up, scored):
        path[0, 0, count[0, 0, 0] - up] = scored
        return parents[0, 0, jnp.maximum(scored - 1, 0)] + 1

    def clear(level, _):
        path[0, 0, level] = 0
        log_probs[0, 0, level] = 0.0
        raw_log_probs[0, 0, level] = 0.0
        return _

    jax.lax.fori_loop(0, nodes + 1, forget, 0)
    jax.lax.fori_loop(0, depth + 1, clear, 0)
    visited, last, _ = jax.lax.while_loop(lambda state: state[2] >= 0, visit, (0, 0, 0))
    count[0, 0, 0] = visited - 1
    jax.lax.fori_loop(0, visited, climb, last)


def walk(logits, tokens, parents, mask, keys, temperature, banned, noise, *, depth: int) -> Walked:
    """See `pallas_kernels.verify.walk`."""
    del noise  # made in the kernel
    batch, _, vocab_size = logits.shape
    scalars = [tokens, parents, mask.astype(jnp.int32), key_words(keys).reshape(batch, -1)]
    scalars = [_line(x) for x in (*scalars, temperature)]
    tables = [] if banned is None else [_bias(banned)]
    whole = pl.BlockSpec(memory_space=pl.ANY)
    like = lambda dtype, size: jax.ShapeDtypeStruct((batch, 1, size), dtype)
    out = [(jnp.int32, depth + 1), (jnp.int32, 1), (jnp.int32, 1)] + 2 * [(jnp.float32, depth + 1)]
    shapes = [like(*x) for x in out]
    lanes, _ = block_shape(vocab_size)
    kernel = functools.partial(
        _walk_kernel, banned=banned is not None, depth=depth, vocab_size=vocab_size
    )
    found = pl.pallas_call(
        kernel,
        grid=(batch,),
        in_specs=[_scalars(x.shape[-1]) for x in scalars] + [_table(x) for x in tables] + [whole],
        out_specs=[_scalars(x.shape[-1]) for x in shapes],
        out_shape=shapes,
        scratch_shapes=[
            pltpu.SMEM((tokens.shape[1] + 1,), jnp.int32),
            pltpu.VMEM((_SUBLANES, lanes), jnp.float32),
            pltpu.SemaphoreType.DMA,
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
        cost_estimate=_cost(batch, depth, vocab_size),
        name="verify_walk",
    )(*scalars, *tables, _aligned(logits))
    path, count, next_token, log_probs, raw_log_probs = (x[:, 0] for x in found)
    return Walked(path, count[:, 0], next_token[:, 0], log_probs, raw_log_probs)


def _line(values):
    """`[B, ...]` as `[B, 1, K]`, which splits into blocks of one row."""
    return values.reshape(len(values), 1, -1)


def _scalars(size):
    """The K scalars of a row."""
    return pl.BlockSpec((1, 1, size), lambda row: (row, 0, 0), memory_space=pltpu.SMEM)


def _table(table):
    """A row's own vector over the vocabulary."""
    return pl.BlockSpec((1, *table.shape[1:]), lambda row: (row, 0, 0))


def _bias(banned):
    """float32 `[B, 8, lanes]`, -inf at banned tokens."""
    batch, vocab_size = banned.shape
    lanes, _ = block_shape(vocab_size)
    bias = jnp.where(banned, -jnp.inf, 0.0)
    bias = jnp.pad(bias, ((0, 0), (0, _SUBLANES * lanes - vocab_size)))
    return bias.reshape(batch, _SUBLANES, lanes)


def _aligned(values):
    """Pads a vocabulary that does not fill its last register: copies can start and end only at whole ones."""
    short = -values.shape[-1] % _LANES
    return jnp.pad(values, ((0, 0), (0, 0), (0, short))) if short else values


def _cost(batch, depth, vocab_size):
    """Of a walk that accepts every depth; the noise takes some 250 operations a token."""
    read = batch * (depth + 1) * vocab_size
    return pl.CostEstimate(flops=270 * read, transcendentals=4 * read, bytes_accessed=4 * read)
