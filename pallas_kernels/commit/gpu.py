"""Commit and write on a GPU: one program a row and token copies a token's heads."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu


def unsupported(cache: Any) -> str | None:
    """Why the kernel cannot serve this cache; None if it can."""
    largest = max(x.size for x in jax.tree.leaves(cache))
    return f"offsets are 32 bits wide, got {largest} numbers" if largest >= 2**31 else None


def commit(cache: Any, new: Any, index: jax.Array, start: jax.Array, count: jax.Array) -> Any:
    """See `pallas_kernels.commit.commit`."""
    place = jnp.arange(index.shape[1])
    room = (start >= 0) & (start + index.shape[1] <= jax.tree.leaves(cache)[0].shape[2])
    stored = room[:, None] & (place < count[:, None])
    return _store("commit", cache, new, index, jnp.where(stored, start[:, None] + place, -1))


def write(cache: Any, new: Any, slots: jax.Array) -> Any:
    """See `pallas_kernels.commit.write`."""
    index = jnp.broadcast_to(jnp.arange(slots.shape[1], dtype=jnp.int32), slots.shape)
    return _store("write", cache, new, index, slots)


def _store(name: str, cache: Any, new: Any, index: jax.Array, slots: jax.Array) -> Any:
    """Stores new tokens `index [B, A]` in `slots [B, A]`; slots outside of the cache are skipped."""
    held, tree = jax.tree.flatten(cache)
    fresh = jax.tree.leaves(new)
    moved = sum(2 * x.nbytes // x.shape[2] * index.shape[1] for x in held)
    written = pl.pallas_call(
        functools.partial(_kernel, arrays=len(held)),
        name=name,
        grid=index.shape,
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in held],
        input_output_aliases={2 + i: i for i in range(len(held))},
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=1),
        cost_estimate=pl.CostEstimate(flops=0, transcendentals=0, bytes_accessed=moved),
    )(index, slots, *held, *fresh)
    return jax.tree.unflatten(tree, written)


def _kernel(index, slots, *refs, arrays):
    new, out = refs[arrays : 2 * arrays], refs[2 * arrays :]
    row, place = pl.program_id(0), pl.program_id(1)
    stored = (slots[row, place] >= 0) & (slots[row, place] < out[0].shape[2])
    slot = jnp.where(stored, slots[row, place], 0)
    for source, target in zip(new, out, strict=True):
        heads, width = target.shape[1], target.shape[3]
        # Blocks are powers of two; what lies beyond the array is masked.
        head = jnp.arange(pl.next_power_of_2(heads))[:, None]
        lane = jnp.arange(pl.next_power_of_2(width))[None]
        mask = stored & (head < heads) & (lane < width)
        token = plgpu.load(source.at[row, head, index[row, place], lane], mask=mask)
        plgpu.store(target.at[row, head, slot, lane], token, mask=mask)
