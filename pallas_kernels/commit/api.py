"""Commit and write: the public functions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pallas_kernels.commit import gpu, reference, tpu
from pallas_kernels.dispatch import Implementation, dispatch

Arrays = Any


def commit(
    cache: Arrays,
    new: Arrays,
    index: jax.Array,
    start: jax.Array,
    count: jax.Array,
    *,
    implementation: Implementation | None = None,
) -> Arrays:
    """Stores the chosen ones of some new tokens in consecutive slots of each row, in place.

        cache[b, :, start[b] + a] = new[b, :, index[b, a]]   for a < count[b]

    Slots `start + count` to `start + A - 1` of a row with `count > 0` hold nothing in particular afterwards: the
    reference writes all A tokens. Every other slot keeps its bits, whatever the slots and the other new tokens hold. A
    row with `count` 0, or without room for A slots (`start + A > S`), keeps all that it has.

    Costs O(A) a row, not O(S), if the caller gives the cache away and what is written depends on all that read it.

    Legend: B rows, S slots, T new tokens, A places of a path; H heads and D head width may differ between arrays.

    Args:
      cache: a pytree of arrays `[B, H, S, D]`, such as the keys and values of a layer.
      new: the same of arrays `[B, H, T, D]`; takes the types of the cache.
      index: int32 `[B, A]`, which new tokens, in path order; in `[0, T)` for `a < count`.
      start: int32 `[B]`, the first slot that is written.
      count: int32 `[B]`, tokens stored, 0 to A.
      implementation: see `pallas_kernels.use`.

    Returns:
      The cache.

    Raises:
      ValueError: for shapes that do not fit together, or an implementation that does not exist or cannot serve these
        arrays.
    """
    batch, slots, _ = _check_arrays(cache, new)
    if index.ndim != 2 or index.shape[0] != batch:
        raise ValueError(f"index must be [{batch}, A], got {index.shape}")
    if not 1 <= index.shape[1] <= slots:
        raise ValueError(f"a path must have 1 to {slots} places, got {index.shape[1]}")
    for name, array in (("start", start), ("count", count)):
        if array.shape != (batch,):
            raise ValueError(f"{name} must be [{batch}], got {array.shape}")
    index = jnp.clip(index, 0, jax.tree.leaves(new)[0].shape[2] - 1)
    forms = {"reference": reference.commit, "tpu": tpu.commit, "gpu": gpu.commit}
    return _dispatch(
        "commit", forms, cache, new, index, start, count, implementation=implementation
    )


def write(
    cache: Arrays,
    new: Arrays,
    slots: jax.Array,
    *,
    implementation: Implementation | None = None,
) -> Arrays:
    """Stores new tokens in chosen slots of each row, in place.

        cache[b, :, slots[b, t]] = new[b, :, t]   for 0 <= slots[b, t] < S

    Every other slot keeps its bits, whatever the slots and the other new tokens hold.

    Costs O(T) a row, not O(S), if the caller gives the cache away and what is written depends on all that read it.

    Legend: B rows, S slots, T new tokens; H heads and D head width may differ between arrays.

    Args:
      cache: a pytree of arrays `[B, H, S, D]`, such as the keys and values of a layer.
      new: the same of arrays `[B, H, T, D]`; takes the types of the cache.
      slots: int32 `[B, T]`; one outside `[0, S)` is skipped. Slots of one row differ.
      implementation: see `pallas_kernels.use`.

    Returns:
      The cache.

    Raises:
      ValueError: for shapes that do not fit together, or an implementation that does not exist or cannot serve these
        arrays.
    """
    batch, _, tokens = _check_arrays(cache, new)
    if slots.shape != (batch, tokens):
        raise ValueError(f"slots must be [{batch}, {tokens}], got {slots.shape}")
    forms = {"reference": reference.write, "tpu": tpu.write, "gpu": gpu.write}
    return _dispatch("write", forms, cache, new, slots, implementation=implementation)


def _dispatch(
    operation: str,
    forms: dict[str, Callable[..., Arrays]],
    cache: Arrays,
    new: Arrays,
    *where: jax.Array,
    implementation: Implementation | None,
) -> Arrays:
    new = jax.tree.map(lambda x, held: x.astype(held.dtype), new, cache)

    def unsupported(name, cache, new, *where):
        if name == "gpu":
            return gpu.unsupported(cache)
        return tpu.unsupported(cache, new, where[0].shape[1]) if name == "tpu" else None

    return dispatch(
        operation,
        forms,
        cache,
        new,
        *where,
        implementation=implementation,
        unsupported=unsupported,
        heads=((1, 1, *(None for _ in where)), 1),
    )


def _check_arrays(cache: Arrays, new: Arrays) -> tuple[int, int, int]:
    """B, S and T."""
    trees: list[Any] = [jax.tree.structure(cache), jax.tree.structure(new)]
    if trees[0] != trees[1]:
        raise ValueError(f"cache and new must be built alike, got {trees[0]} and {trees[1]}")
    held, fresh = jax.tree.leaves(cache), jax.tree.leaves(new)
    if not held or held[0].ndim != 4 or fresh[0].ndim != 4:
        raise ValueError("cache and new must hold arrays [B, H, S, D] and [B, H, T, D]")
    (batch, _, slots, _), tokens = held[0].shape, fresh[0].shape[2]
    for old, x in zip(held, fresh, strict=True):
        if old.ndim != 4 or old.shape[::2] != (batch, slots):
            raise ValueError(f"the cache must be [{batch}, H, {slots}, D], got {old.shape}")
        want = (batch, old.shape[1], tokens, old.shape[3])
        if x.shape != want:
            raise ValueError(f"new must be {want} beside a cache {old.shape}, got {x.shape}")
    return batch, slots, tokens
