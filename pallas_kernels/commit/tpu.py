"""Commit and write on a TPU: the aligned windows that tokens go to are read, changed and written back.

Memory is tiled, so that a single slot cannot be written: the smallest piece of a cache that can is a window of as many
slots as a tile has. A grid step holds one window with all heads of every array, and copies tokens into it one by one.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

VMEM_LIMIT = 14 * 2**20
"""Bytes of the 16 MiB that a kernel gets on the smallest TPUs."""

SMEM_LIMIT = 960 * 2**10
"""Bytes of the 1 MiB of scalar memory."""


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


def unsupported(cache: Any, new: Any, places: int) -> str | None:
    """Why the kernel cannot serve these arrays with so many tokens stored a row; None if it can."""
    held, fresh = jax.tree.leaves(cache), jax.tree.leaves(new)
    if any(x.dtype.itemsize not in (1, 2, 4) for x in held):
        return f"takes types of 1, 2 or 4 bytes, got {', '.join(str(x.dtype) for x in held)}"
    needed = vmem_bytes(held, fresh)
    if needed > VMEM_LIMIT:
        return f"{fresh[0].shape[2]} new tokens need {needed} bytes of VMEM, above {VMEM_LIMIT}"
    scalars = 4 * held[0].shape[0] * (1 + 5 * places)
    if scalars > SMEM_LIMIT:
        return f"{places} tokens a row need {scalars} bytes of scalar memory, above {SMEM_LIMIT}"
    return None


def commit(cache: Any, new: Any, index: jax.Array, start: jax.Array, count: jax.Array) -> Any:
    """See `pallas_kernels.commit.commit`."""
    slots = jax.tree.leaves(cache)[0].shape[2]
    places = index.shape[1]
    count = jnp.where((start >= 0) & (start + places <= slots), count, 0)
    return _store("commit", cache, new, index, start[:, None] + jnp.arange(places), count)


def write(cache: Any, new: Any, slots: jax.Array) -> Any:
    """See `pallas_kernels.commit.write`."""
    capacity = jax.tree.leaves(cache)[0].shape[2]
    stored = (slots >= 0) & (slots < capacity)
    past = jnp.where(stored, slots, capacity)
    order = jnp.argsort(past, axis=1).astype(jnp.int32)
    return _store(
        "write", cache, new, order, jnp.take_along_axis(past, order, axis=1), stored.sum(1)
    )


def _store(
    name: str, cache: Any, new: Any, index: jax.Array, slots: jax.Array, count: jax.Array
) -> Any:
    """Stores new tokens `index [B, A]` in `slots [B, A]`, the first `count [B]` of a row; these slots ascend."""
    held, tree = jax.tree.flatten(cache)
    fresh = jax.tree.leaves(new)
    batch, _, capacity, _ = held[0].shape
    tokens, places = fresh[0].shape[2], index.shape[1]
    size = window_size(capacity, held)
    steps = min(places, -(-capacity // size))
    plan, most = visits(slots, count, size, steps)

    def window(b, w, rows, windows, *_):
        return rows[b], 0, windows[b * steps + w], 0

    def block(x):
        return pl.BlockSpec((1, x.shape[1], size, x.shape[3]), window)

    def token_block(x):
        return pl.BlockSpec((1, *x.shape[1:]), lambda b, w, rows, *_: (rows[b], 0, 0, 0))

    wide = lambda x: jnp.float32 if jnp.issubdtype(x.dtype, jnp.floating) else jnp.int32
    scratch = [pltpu.VMEM((x.shape[1], size, x.shape[3]), wide(x)) for x in held]
    scratch += [pltpu.VMEM((x.shape[1], tokens, x.shape[3]), wide(x)) for x in held]
    scalars = (*plan, index.reshape(-1), slots.reshape(-1))
    usual = min(steps, -(-places // size) + 1)  # windows of slots that follow each other
    moved = sum(x.nbytes // capacity * 2 * size * usual for x in held)
    moved += sum(x.nbytes for x in fresh)
    written = pl.pallas_call(
        functools.partial(_kernel, size=size, steps=steps, places=places, arrays=len(held)),
        name=name,
        # Outputs bound to the main memory (`pltpu.HBM`) keep small caches from being brought to the fast one and back,
        # but a program that is given its cache does not compile then: argument and output alias with unequal layouts.
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in held],
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(scalars),
            grid=(batch, most),
            in_specs=[*map(block, held), *map(token_block, fresh)],
            out_specs=[block(x) for x in held],
            scratch_shapes=scratch,
        ),
        input_output_aliases={len(scalars) + i: i for i in range(len(held))},
        # In order: a step may repeat the one before it, and uses the tokens that the row's first one has unpacked.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("arbitrary", "arbitrary")),
        cost_estimate=pl.CostEstimate(flops=0, transcendentals=0, bytes_accessed=moved),
    )(*scalars, *held, *fresh)
    return jax.tree.unflatten(tree, written)


class Visits(NamedTuple):
    """What each grid step works on.

    A window is visited once: one that was left and visited again could be fetched before its first visit has been
    written back. A step without work of its own (a row that stores nothing, or has no more windows) repeats the step
    next to it. A repetition moves no memory, and computes the same from the same.

    Attributes:
      rows: int32 `[B]`.
      windows: int32 `[B * steps]`, numbers of windows.
      first, last: int32 `[B * steps]`, places of the tokens that a window gets, `first <= place < last`.
    """

    rows: jax.Array
    windows: jax.Array
    first: jax.Array
    last: jax.Array


def visits(slots: jax.Array, count: jax.Array, size: int, steps: int) -> tuple[Visits, jax.Array]:
    """Plans the grid.

    Args:
      slots: int32 `[B, A]`; the first `count` of a row ascend.
      count: int32 `[B]`.
      size: slots of a window.
      steps: windows of a row, at most.

    Returns:
      The visits, and int32 `[]`, the windows of the row that has most of them, at least 1.
    """
    batch, places = (jnp.arange(n, dtype=jnp.int32) for n in slots.shape)
    works = count > 0
    before = jax.lax.cummax(jnp.where(works, batch, -1))
    rows = jnp.where(before >= 0, before, jnp.argmax(works).astype(jnp.int32))
    stored = places < count[:, None]
    window = slots // size
    opens = stored & ((places == 0) | (window != jnp.roll(window, 1, axis=1)))
    number = jnp.cumsum(opens, axis=1)  # 1 for the tokens of the first window
    windows = number[:, -1]
    # A row that works goes through its windows. One behind it stays at its last, one before it waits at its first.
    step = jnp.where((batch == rows)[:, None], jnp.arange(steps), (batch > rows)[:, None] * steps)
    step = jnp.clip(step, 0, jnp.maximum(windows[rows, None] - 1, 0))[:, None]  # [B, 1, steps]
    number, stored = number[rows, :, None], stored[rows, :, None]  # [B, A, 1]
    first = jnp.sum(stored & (number <= step), axis=1)
    last = jnp.sum(stored & (number <= step + 1), axis=1)
    at = jnp.max(jnp.where(stored & (number == step + 1), window[rows, :, None], 0), axis=1)
    flat = lambda x: x.reshape(-1).astype(jnp.int32)
    return Visits(rows, flat(at), flat(first), flat(last)), jnp.maximum(windows.max(), 1)


def _kernel(rows, windows, first, last, index, slots, *refs, size, steps, places, arrays):
    old, new, out, window, tokens = (refs[i * arrays : (i + 1) * arrays] for i in range(5))
    row = rows[pl.program_id(0)]
    step = pl.program_id(0) * steps + pl.program_id(1)

    # Single slots of packed types cannot be addressed: 32 bits meanwhile, which changes no value.
    @pl.when(pl.program_id(1) == 0)
    def _():
        for i in range(arrays):
            tokens[i][...] = new[i][0].astype(tokens[i].dtype)

    for i in range(arrays):
        window[i][...] = old[i][0].astype(window[i].dtype)

    def copy(place, _):
        slot = slots[row * places + place] - windows[step] * size
        token = index[row * places + place]
        for i in range(arrays):
            window[i][:, pl.ds(slot, 1), :] = tokens[i][:, pl.ds(token, 1), :]
        return 0

    jax.lax.fori_loop(first[step], last[step], copy, 0)
    for i in range(arrays):
        out[i][0] = window[i][...].astype(out[i].dtype)
