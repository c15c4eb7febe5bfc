"""`unmask` as a Pallas kernel for GPUs, by Triton.

A program takes some rows and one part of the vocabulary, so that a few rows fill the device; each part ends as one
small state a row, and `online.merge` joins them. The fused form multiplies its part of the matrix first, in registers.

Legend: N rows, V vocabulary, B groups of rows, D width of hidden states.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from pallas_kernels import noise
from pallas_kernels.laws import TINY
from pallas_kernels.unmask import online
from pallas_kernels.unmask.types import Readout, Unmasked

_DEPTH = 64  # of hidden states that are multiplied at a time


def block_sizes(rows: int, size: int, fused: bool) -> tuple[int, int]:
    """Rows and columns of a program, powers of two.

    A row at a time, in parts of 16 KiB: 64 rows of 128k logits are 2048 programs for 132 multiprocessors. Fused: a tile
    of the matrix unit whose logits fit in registers; rows beyond 64 find the matrix in the second-level cache.

    Args:
      rows: N.
      size: V.
      fused: whether hidden states are given.
    """
    if fused:
        return min(64, max(16, pl.next_power_of_2(rows))), 128
    return 1, min(4096, pl.next_power_of_2(size))


def unmask(
    scores: jax.Array | Readout,
    keys: jax.Array | None,
    temperature: jax.Array,
    banned: jax.Array | None,
    *,
    blocks: tuple[int, int] | None = None,
    interpret: bool = False,
) -> Unmasked:
    """See `pallas_kernels.unmask.unmask`; `blocks` overrides `block_sizes`, `interpret` runs anywhere."""
    rows, size = scores.shape
    readout = scores if isinstance(scores, Readout) else None
    row_block, column_block = blocks or block_sizes(rows, size, readout is not None)
    grid = (pl.cdiv(rows, row_block), pl.cdiv(size, column_block))
    if keys is None:
        temperature = jnp.zeros_like(temperature)
    words = jnp.zeros((rows, 2), jnp.uint32) if keys is None else noise.key_words(keys)
    inputs = [words[:, 0], words[:, 1], temperature]
    if banned is not None:
        inputs.append(banned.astype(jnp.int8))
    if isinstance(scores, Readout):
        inputs += [scores.hidden, scores.matrix]
    else:
        inputs.append(scores)

    # Neighbouring programs differ in the row: they share their part of the matrix.
    part = jax.ShapeDtypeStruct((grid[1], rows), jnp.float32)
    depth = 0 if readout is None else readout.hidden.shape[1]
    read = sum(x.size * x.dtype.itemsize for x in inputs)
    out = pl.pallas_call(
        functools.partial(
            _kernel,
            rows=rows,
            size=size,
            blocks=(row_block, column_block),
            groups=None if banned is None else banned.shape[0],
            readout=readout,
        ),
        out_shape=[part] * online.FIELDS,
        grid=grid,
        interpret=interpret,
        compiler_params=plgpu.CompilerParams(num_warps=4 if readout is None else 8, num_stages=3),
        cost_estimate=pl.CostEstimate(
            flops=rows * size * (250 + 2 * depth),
            transcendentals=rows * size * 5,
            bytes_accessed=read + online.FIELDS * part.size * 4,
        ),
        name="unmask_logits" if readout is None else "unmask_hidden",
    )(*inputs)
    parts = jax.tree.unflatten(online.STRUCTURE, [x.T for x in out])
    inverse, _ = online.sharpness(temperature)
    state = jax.tree.map(lambda x: x[:, 0], online.merge(parts, inverse[:, None]))
    return online.finish(state, temperature)


def _kernel(first, second, temperature, *rest, rows, size, blocks, groups, readout):
    """One part of the vocabulary for some rows; `rest`: bans if there are, scores or their factors, the state."""
    refs = list(rest)
    banned = None if groups is None else refs.pop(0)
    row, start = pl.program_id(0) * blocks[0], pl.program_id(1) * blocks[1]
    at = pl.ds(row, blocks[0])
    numbers = row + jnp.arange(blocks[0])
    exists = numbers < rows
    column = start + jnp.arange(blocks[1])[None, :]
    inside = column < size
    of_row = lambda ref: plgpu.load(ref.at[at], mask=exists, other=0)[:, None]

    if readout is None:
        logits = refs.pop(0)
        seen = exists[:, None] & inside
        x = plgpu.load(logits.at[at, pl.ds(start, blocks[1])], mask=seen, other=0)
        x = x.astype(jnp.float32)
    else:
        x = _product(refs.pop(0), refs.pop(0), at, exists, start, inside[0], blocks, readout)
    x = jnp.where(inside, x, -jnp.inf)
    allowed = x
    if banned is not None:
        group = jnp.minimum(numbers, rows - 1) // (rows // groups)
        spread = lambda index: jnp.broadcast_to(index, x.shape)
        here = banned.at[spread(group[:, None]), spread(column)]
        bans = plgpu.load(here, mask=spread(inside), other=0)
        allowed = jnp.where(bans != 0, -jnp.inf, x)
    heat = of_row(temperature)
    inverse, loud = online.sharpness(heat)

    def sum_up(drawn):
        apart = online.columns_apart(x, allowed, column.astype(jnp.float32), drawn)
        return online.merge(apart, inverse)

    def sampled():
        words = of_row(first), of_row(second)
        return sum_up(noise.gumbel(*words, column.astype(jnp.uint32), size) * loud)

    state = jax.lax.cond(jnp.max(heat) >= TINY, sampled, lambda: sum_up(0.0))
    for ref, value in zip(refs, jax.tree.leaves(state), strict=True):
        plgpu.store(ref.at[pl.program_id(1), at], value[:, 0], mask=exists)


def _product(hidden, matrix, at, exists, start, inside, blocks, readout):
    """Logits float32 `[rows, columns]` of this program."""
    depth = readout.hidden.shape[1]
    columns = pl.ds(start, blocks[1])

    def step(k, total):
        deep = pl.ds(k * _DEPTH, _DEPTH)
        known = k * _DEPTH + jnp.arange(_DEPTH) < depth
        left = plgpu.load(hidden.at[at, deep], mask=exists[:, None] & known, other=0)
        lying = readout.vocab_axis == 0
        right = matrix.at[columns, deep] if lying else matrix.at[deep, columns]
        mask = inside[:, None] & known if lying else known[:, None] & inside
        right = plgpu.load(right, mask=mask, other=0)
        return total + plgpu.dot(left, right, trans_b=lying, precision=readout.precision)

    return jax.lax.fori_loop(0, pl.cdiv(depth, _DEPTH), step, jnp.zeros(blocks, jnp.float32))
