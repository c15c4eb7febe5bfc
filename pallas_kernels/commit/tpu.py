"""Commit on a TPU: the aligned windows that a path touches are read, changed and written back.

Memory is tiled, so that a single slot cannot be written: the smallest piece of a cache that can is a window of as many
slots as a tile has. A grid step holds one window with all heads of every array, and copies tokens into it one by one.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

VMEM_LIMIT = 14 * 2**20
"""Bytes of the 16 MiB that a kernel gets on the smallest TPUs."""


def window_size(slots: int, arrays: list[jax.Array]) -> int:
    """Slots a window: a tile, which has 32 in types of 8 bits, else 8 (bfloat16 is tiled in eights and pairs)."""
    return min(slots, 32 if min(x.dtype.itemsize for x in arrays) == 1 else 8)


def vmem_bytes(cache: list[jax.Array], new: list[jax.Array]) -> int:
    """What a grid step holds: blocks twice, for the one that is on its way, and 32-bit copies."""
    window = window_size(cache[0].shape[2], cache)
    total = 0
    for old, x in zip(cache, new, strict=True):
        lanes = old.shape[1] * -(-old.shape[3] // 128) * 128
        size, tokens = old.dtype.itemsize, x.shape[2]
        total += lanes * (2 * size * (2 * window + tokens) + 4 * (window + tokens))
    return total


def unsupported(cache: Any, new: Any) -> str | None:
    """Why the kernel cannot serve these arrays; None if it can."""
    held, fresh = jax.tree.leaves(cache), jax.tree.leaves(new)
    if any(x.dtype.itemsize not in (1, 2, 4) for x in held):
        return f"takes types of 1, 2 or 4 bytes, got {', '.join(str(x.dtype) for x in held)}"
    needed = vmem_bytes(held, fresh)
    if needed > VMEM_LIMIT:
        return f"{fresh[0].shape[2]} new tokens need {needed} bytes of VMEM, above {VMEM_LIMIT}"
    return None


def commit(cache: Any, new: Any, index: jax.Array, start: jax.Array, count: jax.Array) -> Any:
    """See `pallas_kernels.commit.commit`."""
    held, tree = jax.tree.flatten(cache)
    fresh = jax.tree.leaves(new)
    batch, _, slots, _ = held[0].shape
    tokens, places = fresh[0].shape[2], index.shape[1]
    size = window_size(slots, held)
    steps = min(-(-(places + size - 1) // size), -(-slots // size))
    count = jnp.where((start >= 0) & (start + places <= slots), count, 0)
    rows, windows = visits(start, count, slots, size, steps)

    def window(b, w, rows, windows, *_):
        return rows[b], 0, windows[b * steps + w], 0

    def block(x):
        return pl.BlockSpec((1, x.shape[1], size, x.shape[3]), window)

    def token_block(x):
        return pl.BlockSpec((1, *x.shape[1:]), lambda b, w, rows, *_: (rows[b], 0, 0, 0))

    wide = lambda x: jnp.float32 if jnp.issubdtype(x.dtype, jnp.floating) else jnp.int32
    scratch = [pltpu.VMEM((x.shape[1], size, x.shape[3]), wide(x)) for x in held]
    scratch += [pltpu.VMEM((x.shape[1], tokens, x.shape[3]), wide(x)) for x in held]
    scalars = (rows, windows, index.reshape(-1), start, count)
    moved = sum(x.nbytes // slots * 2 * size * steps for x in held) + sum(x.nbytes for x in fresh)
    written = pl.pallas_call(
        functools.partial(_kernel, size=size, steps=steps, places=places, arrays=len(held)),
        name="commit",
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in held],
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(scalars),
            grid=(batch, steps),
            in_specs=[*map(block, held), *map(token_block, fresh)],
            out_specs=[block(x) for x in held],
            scratch_shapes=scratch,
        ),
        input_output_aliases={len(scalars) + i: i for i in range(len(held))},
        # In order: a step may repeat the one before it.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("arbitrary", "arbitrary")),
        cost_estimate=pl.CostEstimate(flops=0, transcendentals=0, bytes_accessed=moved),
    )(*scalars, *held, *fresh)
    return jax.tree.unflatten(tree, written)


def visits(
    start: jax.Array, count: jax.Array, slots: int, size: int, steps: int
) -> tuple[jax.Array, jax.Array]:
    """The row and the window that each grid step works on.

    A step without work of its own (a row that stores nothing, a window that the path does not reach) repeats the step
    next to it. A repetition moves no memory, and computes the same from the same.

    Returns:
      Rows int32 `[B]` and windows int32 `[B * steps]`.
    """
    batch = jnp.arange(start.shape[0], dtype=jnp.int32)
    works = count > 0
    before = jax.lax.cummax(jnp.where(works, batch, -1))
    rows = jnp.where(before >= 0, before, jnp.argmax(works).astype(jnp.int32))
    first = jnp.clip(start // size, 0, (slots - 1) // size)
    last = jnp.maximum(first, (start + count - 1) // size)
    # A row that works goes through its windows. One behind it stays at its last, one before it waits at its first.
    own = jnp.minimum(first[rows, None] + jnp.arange(steps), last[rows, None])
    other = jnp.where(batch < rows, first[rows], last[rows])
    windows = jnp.where((batch == rows)[:, None], own, other[:, None])
    return rows, windows.reshape(-1).astype(jnp.int32)


def _kernel(rows, windows, index, start, count, *refs, size, steps, places, arrays):
    old, new, out, window, tokens = (refs[i * arrays : (i + 1) * arrays] for i in range(5))
    row = rows[pl.program_id(0)]
    base = windows[pl.program_id(0) * steps + pl.program_id(1)] * size
    for i in range(arrays):
        # Single slots of packed types cannot be addressed: 32 bits meanwhile, which changes no value.
        window[i][...] = old[i][0].astype(window[i].dtype)
        tokens[i][...] = new[i][0].astype(tokens[i].dtype)

    def copy(slot, _):
        token = index[row * places + base + slot - start[row]]
        for i in range(arrays):
            window[i][:, pl.ds(slot, 1), :] = tokens[i][:, pl.ds(token, 1), :]
        return 0

    low = jnp.maximum(start[row] - base, 0)
    jax.lax.fori_loop(low, jnp.minimum(start[row] + count[row] - base, size), copy, 0)
    for i in range(arrays):
        out[i][0] = window[i][...].astype(out[i].dtype)
