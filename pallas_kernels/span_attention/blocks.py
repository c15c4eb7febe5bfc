"""Which blocks of keys any query of a block can see.

Legend: B rows, I blocks of queries, J blocks of keys.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.span_attention.parts import Keys

FAR = 2**30
NOBODY = (FAR, -FAR)
"""The span of a key that no query sees."""


class Visits(NamedTuple):
    """The blocks of keys that a block of queries has to read.

    Attributes:
      order: int32 `[B, I, J]`, their numbers in ascending order; the last is repeated to the end (0 if there is none).
      length: int32 `[B, I]`, how many there are.
    """

    order: jax.Array
    length: jax.Array


def visits(
    query_spans: jax.Array,
    positions: jax.Array | None,
    part: Keys,
    queries: int,
    keys: int,
    window: int | None,
) -> Visits:
    """Compares extremes: a block of keys is read unless they prove that nobody sees any of it.

    Some query sees some key only if `min start <= max lo` and `min hi <= max stop`, and in a window only if the ranges
    of their positions come that close.

    Args:
      query_spans: int32 `[B, T, 2]`.
      positions: int32 `[B, T]`, with a window.
      part: S keys.
      queries: in a block.
      keys: in a block.
      window: positions, or None.
    """
    lo, hi = (_blocks(query_spans[..., i], queries, pad) for i, pad in enumerate((-FAR, FAR)))
    start, stop = (_blocks(part.key_spans[..., i], keys, NOBODY[i]) for i in range(2))
    # A key that nobody can see must not stretch the extremes of its block.
    alive = start <= stop
    start, stop = jnp.where(alive, start, FAR), jnp.where(alive, stop, -FAR)
    seen = start.min(-1)[:, None] <= lo.max(-1)[..., None]
    seen &= hi.min(-1)[..., None] <= stop.max(-1)[:, None]
    if window is not None:
        assert positions is not None and part.positions is not None
        first = _blocks(positions, queries, FAR).min(-1)[..., None]
        last = _blocks(positions, queries, -FAR).max(-1)[..., None]
        held = _blocks(part.positions, keys, 0)
        low = jnp.where(alive, held, FAR).min(-1)[:, None]
        high = jnp.where(alive, held, -FAR).max(-1)[:, None]
        seen &= (low - last < window) & (first - high < window)
    count = seen.sum(-1).astype(jnp.int32)
    order = jnp.argsort(~seen, axis=-1, stable=True).astype(jnp.int32)
    last = jnp.maximum(count - 1, 0)[..., None]
    place = jnp.minimum(jnp.arange(order.shape[-1]), last)
    order = jnp.where(count[..., None] > 0, jnp.take_along_axis(order, place, axis=-1), 0)
    return Visits(order, count)


def marks(part: Keys, keys: int, window: int | None) -> jax.Array:
    """Spans, and positions where there is a window, as rows int32 `[B, 2 or 3, J * keys]`: keys lie along lanes."""
    columns = [part.key_spans[..., 0], part.key_spans[..., 1]]
    if window is not None:
        assert part.positions is not None
        columns.append(part.positions)
    fill = (*NOBODY, 0)
    rows = [_blocks(x, keys, fill[i]).reshape(x.shape[0], -1) for i, x in enumerate(columns)]
    return jnp.stack(rows, axis=1)


def _blocks(x: jax.Array, size: int, fill: int) -> jax.Array:
    """`[B, n]` as `[B, blocks, size]`, the last one filled up."""
    more = -x.shape[1] % size
    return jnp.pad(x, ((0, 0), (0, more)), constant_values=fill).reshape(x.shape[0], -1, size)
