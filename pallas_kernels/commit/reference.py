"""Commit and write in plain jnp: the specification.

A commit is a scatter of one window of A slots a row, not of A slots: that is what XLA updates in place at the least
cost.
"""

from typing import Any

import jax
import jax.numpy as jnp


def commit(cache: Any, new: Any, index: jax.Array, start: jax.Array, count: jax.Array) -> Any:
    """See `pallas_kernels.commit.commit`."""

    def put(old, x):
        path = jnp.take_along_axis(x, index[:, None, :, None], axis=2)
        return write_windows(old, path, start, count > 0, axis=2)

    return jax.tree.map(put, cache, new)


def write(cache: Any, new: Any, slots: jax.Array) -> Any:
    """See `pallas_kernels.commit.write`."""
    return jax.tree.map(lambda old, x: write_slots(old, x, slots, axis=2), cache, new)


def write_windows(
    old: jax.Array, new: jax.Array, start: jax.Array, written: jax.Array, axis: int
) -> jax.Array:
    """Overwrites a window of each row `old[b]` by `new[b]`, in place where the compiler may.

    Args:
      old: `[B, ..., S, ...]`, S at `axis`.
      new: `[B, ..., A, ...]`, of the same type.
      start: int32 `[B]`, the first slot of the window; one that ends past S is dropped whole.
      written: bool `[B]`, rows that are written.
      axis: that of the slots, counted with the row axis.
    """
    window = jax.lax.ScatterDimensionNumbers(
        update_window_dims=tuple(range(1, old.ndim)),
        inserted_window_dims=(),
        scatter_dims_to_operand_dims=(axis,),
        operand_batching_dims=(0,),
        scatter_indices_batching_dims=(0,),
    )
    return jax.lax.scatter(
        old,
        jnp.where(written, start, old.shape[axis])[:, None],
        new,
        window,
        unique_indices=True,
        mode=jax.lax.GatherScatterMode.FILL_OR_DROP,
    )


def write_slots(old: jax.Array, new: jax.Array, slots: jax.Array, axis: int) -> jax.Array:
    """Overwrites chosen slots of each row `old[b]` by those of `new[b]`.

    Args:
      old: `[B, ..., S, ...]`, S at `axis`.
      new: `[B, ..., T, ...]`, of the same type.
      slots: int32 `[B, T]`; those of a row differ, and those outside `[0, S)` are skipped.
      axis: that of the slots, counted with the row axis.
    """
    capacity = old.shape[axis]
    if 2 * slots.shape[1] >= capacity:
        return _rewritten(old, new, slots, axis)
    # Skipped tokens get distinct places past the end: the scatter is promised unique indices.
    past = capacity + jnp.arange(slots.shape[1])
    slots = jnp.where((slots < 0) | (slots >= capacity), past, slots)

    def row(old, new, slots):
        at = (slice(None),) * (axis - 1) + (slots,)
        return old.at[at].set(new, mode="drop", unique_indices=True)

    return jax.vmap(row)(old, new, slots)


def _rewritten(old: jax.Array, new: jax.Array, slots: jax.Array, axis: int) -> jax.Array:
    """`write_slots` where much of each row is written: every slot takes what is new to it, without a scatter."""
    size, tokens = old.shape[axis], slots.shape[1]
    places = jnp.arange(tokens, dtype=jnp.int32)
    inside = jnp.where((slots < 0) | (slots >= size), size + places, slots)
    taken = jax.vmap(
        lambda at: (
            jnp.full((size,), -1, jnp.int32).at[at].set(places, mode="drop", unique_indices=True)
        )
    )(inside)
    shape = (len(old), *(size if i == axis else 1 for i in range(1, old.ndim)))
    taken = taken.reshape(shape)
    found = jnp.take_along_axis(new, jnp.maximum(taken, 0), axis=axis)
    return jnp.where(taken >= 0, found, old)
