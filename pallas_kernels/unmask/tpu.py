"""`unmask` as a Pallas kernel for TPUs.

The grid goes over blocks of rows and, within them, over blocks of the vocabulary. Each of the 128 lanes sums up the
columns that fall on it; the lanes are merged once, in the last block. The fused form multiplies a block of the matrix
with the hidden states first, into scratch.

Legend: N rows, V vocabulary, B groups of rows, D width of hidden states.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels import noise
from pallas_kernels.laws import TINY
from pallas_kernels.unmask import online
from pallas_kernels.unmask.types import Readout, Unmasked

LANES = 128
_SUBLANES = 8
# Columns of one turn of the inner loop: 4 registers a quantity keep the arithmetic units busy and fit beside the state.
_CHUNK = 4 * LANES
# Of the 16 MiB that a kernel has by default; the rest is for what the compiler spills.
_BUDGET = 12 * 2**20


def block_sizes(rows: int, size: int, itemsize: int, width: int | None = None) -> tuple[int, int]:
    """Rows and columns of a block.

    As many rows as there are up to 256, for what is read once a block of rows: bans, and in the fused form the matrix,
    whose hidden states take a quarter of the room at most each. As many columns as fit beside them.

    Args:
      rows: N.
      size: V.
      itemsize: bytes of a number of the logits or the matrix.
      width: D in the fused form.
    """
    packed = _SUBLANES * 4 // itemsize  # rows of a register
    most = 256
    if width is not None:
        vectors = _BUDGET // (2 * width * itemsize)
        most = min(most, max(min(vectors // 2, vectors - LANES) // packed, 1) * packed)
    row_block = min(most, -(-rows // packed) * packed)
    # All that comes from outside is there twice, the next block while this one is worked on.
    bans = 2 * 4 * row_block
    fixed, column = 0, 2 * itemsize * row_block + bans
    if width is not None:
        fixed, column = (
            2 * row_block * width * itemsize,
            2 * width * itemsize + 4 * row_block + bans,
        )
    fixed += 4 * row_block * LANES * online.FIELDS
    fit = min((_BUDGET - fixed) // column, 2048)
    if fit >= _CHUNK:
        return row_block, min(fit // _CHUNK, -(-size // _CHUNK)) * _CHUNK
    return row_block, 2 * LANES if fit >= 2 * LANES else LANES


def unmask(
    scores: jax.Array | Readout,
    keys: jax.Array | None,
    temperature: jax.Array,
    banned: jax.Array | None,
    *,
    blocks: tuple[int, int] | None = None,
) -> Unmasked:
    """See `pallas_kernels.unmask.unmask`; `blocks` overrides `block_sizes`."""
    rows, size = scores.shape
    readout = scores if isinstance(scores, Readout) else None
    dtype = scores.matrix.dtype if isinstance(scores, Readout) else scores.dtype
    width = None if readout is None else readout.hidden.shape[1]
    row_block, column_block = blocks or block_sizes(rows, size, dtype.itemsize, width)
    # Rows that are taken at a time: a register of the logits, which are float32 in scratch.
    step = _SUBLANES if readout else _SUBLANES * 4 // dtype.itemsize
    grid = (pl.cdiv(rows, row_block), pl.cdiv(size, column_block))

    if keys is None:
        temperature = jnp.zeros_like(temperature)
    words = jnp.zeros((rows, 2), jnp.uint32) if keys is None else noise.key_words(keys)
    padded = grid[0] * row_block
    sampled = jnp.pad(temperature >= TINY, (0, padded - rows)).reshape(-1, step).any(1)

    row = lambda i, j, _: (i, 0)
    inputs = [words, temperature[:, None]]
    specs = [pl.BlockSpec((row_block, 2), row), pl.BlockSpec((row_block, 1), row)]
    group = None
    if banned is not None:
        # Rows of a step share their bans, or each row has its own.
        group = rows // banned.shape[0]
        if group % step:
            banned, group = jnp.repeat(banned, group, axis=0), 1
        inputs.append(jnp.where(banned, -jnp.inf, 0.0).astype(jnp.float32))
        spec = pl.BlockSpec((row_block, column_block), lambda i, j, _: (i, j))
        if group > 1:
            spec = pl.BlockSpec((banned.shape[0], column_block), lambda i, j, _: (0, j))
        specs.append(spec)
    scratch = [pltpu.VMEM((row_block, LANES), jnp.float32)] * online.FIELDS
    if isinstance(scores, Readout):
        inputs += [scores.hidden, scores.matrix]
        specs.append(pl.BlockSpec((row_block, width), row))
        if scores.vocab_axis == 0:
            specs.append(pl.BlockSpec((column_block, width), lambda i, j, _: (j, 0)))
        else:
            specs.append(pl.BlockSpec((width, column_block), lambda i, j, _: (0, j)))
        scratch.append(pltpu.VMEM((row_block, column_block), jnp.float32))
    else:
        inputs.append(scores)
        specs.append(pl.BlockSpec((row_block, column_block), lambda i, j, _: (i, j)))

    read = sum(x.size * x.dtype.itemsize for x in inputs)
    if readout is not None:
        read += (grid[0] - 1) * readout.matrix.size * dtype.itemsize
    out = pl.pallas_call(
        functools.partial(
            _kernel,
            rows=rows,
            size=size,
            step=step,
            group=group,
            readout=readout,
        ),
        out_shape=jax.ShapeDtypeStruct((rows, LANES), jnp.float32),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=grid,
            in_specs=specs,
            out_specs=pl.BlockSpec((row_block, LANES), row),
            scratch_shapes=scratch,
        ),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=pl.CostEstimate(
            flops=rows * size * (250 + 2 * (width or 0)),
            transcendentals=rows * size * 5,
            bytes_accessed=read + rows * LANES * 4,
        ),
        name="unmask_logits" if readout is None else "unmask_hidden",
    )(sampled.astype(jnp.int32), *inputs)
    fields = [out[:, i] for i in range(online.FIELDS)]
    return online.finish(jax.tree.unflatten(online.STRUCTURE, fields), temperature)


def _kernel(sampled, words, temperature, *rest, rows, size, step, group, readout):
    """One block. `rest`: bans if there are, the scores or their factors, the output, the state, logits if fused."""
    refs = list(rest)
    bias = None if group is None else refs.pop(0)
    if readout is None:
        logits = refs.pop(0)
    else:
        hidden, matrix, logits = refs.pop(0), refs.pop(0), refs.pop()
    out, *state_refs = refs
    i, j = pl.program_id(0), pl.program_id(1)
    row_block, column_block = logits.shape

    @pl.when(j == 0)
    def _():
        begin = jax.tree.leaves(online.start((row_block, LANES)))
        for ref, value in zip(state_refs, begin, strict=True):
            ref[...] = value

    if readout is not None:
        logits[...] = jax.lax.dot_general(
            hidden[...],
            matrix[...],
            (((1,), (1 - readout.vocab_axis,)), ((), ())),
            precision=readout.precision,
            preferred_element_type=jnp.float32,
        )

    left = size - j * column_block
    chunk = min(_CHUNK, column_block)
    chunks = jnp.minimum(pl.cdiv(left, chunk), column_block // chunk)

    def of_rows(n, _):
        at = pl.ds(pl.multiple_of(n * step, step), step)
        inverse, loud = online.sharpness(temperature[at, :])
        first, second = words[at, 0:1], words[at, 1:2]

        def absorb(k, state, draws):
            start = pl.multiple_of(k * chunk, chunk)
            here = pl.ds(start, chunk)
            x = logits[at, here].astype(jnp.float32)
            lane = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
            allowed = x
            if bias is not None:
                # Within a group every row has the same bans.
                bans = at if group == 1 else pl.ds(jax.lax.div(i * row_block + n * step, group), 1)
                allowed = x + bias[bans, here]
            if size % chunk:
                inside = lane < left - start
                x = jnp.where(inside, x, -jnp.inf)
                allowed = jnp.where(inside, allowed, -jnp.inf) if bias is not None else x
            column = lane + (j * column_block + start)
            drawn = None
            if draws:
                drawn = noise.gumbel(first, second, column.astype(jnp.uint32), size) * loud
            tiles = lambda x: [x[:, c : c + LANES] for c in range(0, chunk, LANES)]
            return online.absorb(
                state,
                tiles(x),
                tiles(allowed),
                tiles(column.astype(jnp.float32)),
                inverse,
                tiles(drawn) if draws else None,
            )

        def run(draws):
            held = jax.tree.unflatten(online.STRUCTURE, [ref[at, :] for ref in state_refs])
            held = jax.lax.fori_loop(0, chunks, functools.partial(absorb, draws=draws), held)
            for ref, value in zip(state_refs, jax.tree.leaves(held), strict=True):
                ref[at, :] = value

        any_sampled = sampled[i * (row_block // step) + n] > 0
        pl.when(any_sampled)(lambda: run(True))
        pl.when(~any_sampled)(lambda: run(False))
        return _

    real = jnp.minimum(pl.cdiv(rows - i * row_block, step), row_block // step)
    jax.lax.fori_loop(0, real, of_rows, 0)

    @pl.when(j == pl.num_programs(1) - 1)
    def _():
        inverse, _ = online.sharpness(temperature[...])
        held = jax.tree.unflatten(online.STRUCTURE, [ref[...] for ref in state_refs])
        lane = jax.lax.broadcasted_iota(jnp.int32, out.shape, 1)
        packed = jnp.zeros(out.shape, jnp.float32)
        for field, value in enumerate(jax.tree.leaves(online.merge(held, inverse))):
            packed = jnp.where(lane == field, value, packed)
        out[...] = packed
