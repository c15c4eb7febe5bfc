"""The key-value cache: fixed capacity, a length a row, and spans instead of masks.

Legend: B rows, S slots, T new tokens, A tokens of an accepted path, H key-value heads, D head width, L layers.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdec import visibility


class LayerEntries(NamedTuple):
    """Keys and values `[B, H, T, D]` of the new tokens at one layer."""

    keys: jax.Array
    values: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVEntries:
    """What a transformer computed for new tokens, ready to be stored.

    Attributes:
      layers: one `LayerEntries` a layer.
      positions: int32 `[B, T]`.
    """

    layers: tuple[LayerEntries, ...]
    positions: jax.Array

    def first(self, count: int) -> "KVEntries":
        """The first `count` of the T entries; static."""
        layers = tuple(
            LayerEntries(e.keys[:, :, :count], e.values[:, :, :count]) for e in self.layers
        )
        return KVEntries(layers, self.positions[:, :count])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values of committed tokens.

    Heads come before slots, so that attention reads each layer as it lies in memory.

    Attributes:
      layers: keys and values `[B, H, S, D]` a layer.
      spans: int32 `[B, S, 2]`, the span over which each slot is seen; `visibility.EMPTY` for an empty slot.
      positions: int32 `[B, S]`.
      length: int32 `[B]`, slots in use.
    """

    layers: tuple[LayerEntries, ...]
    spans: jax.Array
    positions: jax.Array
    length: jax.Array

    @classmethod
    def create(
        cls,
        *,
        layers: int,
        batch: int,
        capacity: int,
        heads: int,
        head_dim: int,
        dtype: jax.typing.DTypeLike = jnp.float32,
    ) -> "KVCache":
        """An empty cache."""
        zeros = lambda: jnp.zeros((batch, heads, capacity, head_dim), dtype)
        return cls(
            layers=tuple(LayerEntries(zeros(), zeros()) for _ in range(layers)),
            spans=jnp.broadcast_to(jnp.asarray(visibility.EMPTY), (batch, capacity, 2)),
            positions=jnp.zeros((batch, capacity), jnp.int32),
            length=jnp.zeros((batch,), jnp.int32),
        )

    @property
    def capacity(self) -> int:
        """Slots a row, S."""
        return self.spans.shape[1]

    def commit(
        self, entries: KVEntries, index: jax.Array, count: jax.Array, lives: jax.Array
    ) -> "KVCache":
        """Appends an accepted path to each row at the row's own length: O(A) a layer, never O(S).

        All A gathered entries are written where `count > 0`, those past `count` with an empty span; the next commit
        overwrites them. What is written depends on `count`, and so on the forward that read the cache: the compiler
        sees that the reads come first and updates the cache in place.

        The caller keeps `length + A <= S` for rows with `count > 0`. A row that lacks the room keeps its committed
        slots and its length (`count` is taken as 0).

        Args:
          entries: of T new tokens.
          index: int32 `[B, A]`, which new tokens, in path order.
          count: int32 `[B]`, how many of them, 0 to A.
          lives: int32 `[B, A, 2]`, the spans that the stored tokens live over from now on.
        """
        width = index.shape[1]
        count = jnp.where(self.length + width <= self.capacity, count, 0)
        slots = self.length[:, None] + jnp.arange(width)
        kept = jnp.arange(width) < count[:, None]
        lives = jnp.where(kept[..., None], lives, visibility.EMPTY)
        return self._put(
            _gather(entries, index),
            slots,
            lives,
            self.length + count,
            contiguous=True,
            written=count > 0,
        )

    def write(self, entries: KVEntries, slots: jax.Array, lives: jax.Array) -> "KVCache":
        """Overwrites chosen slots with new entries; lengths stay.

        Serves caches that refresh committed places (canvas decoding).

        Args:
          entries: of T new tokens.
          slots: int32 `[B, T]`; a slot outside `[0, S)` is skipped. Slots of one row differ.
          lives: int32 `[B, T, 2]`, the spans of the stored tokens.
        """
        # Skipped tokens get distinct places past the end: the scatter is promised unique indices.
        past = self.capacity + jnp.arange(slots.shape[1])
        slots = jnp.where((slots < 0) | (slots >= self.capacity), past, slots)
        return self._put(entries, slots, lives, self.length, contiguous=False)

    def _put(self, entries, slots, lives, length, *, contiguous, written=None) -> "KVCache":
        if contiguous:
            # A window that starts past the end is dropped whole.
            start = jnp.where(written, slots[:, 0], self.capacity)

            def put(old, new, axis):
                window = jax.lax.ScatterDimensionNumbers(
                    update_window_dims=tuple(range(1, old.ndim)),
                    inserted_window_dims=(),
                    scatter_dims_to_operand_dims=(axis + 1,),
                    operand_batching_dims=(0,),
                    scatter_indices_batching_dims=(0,),
                )
                return jax.lax.scatter(
                    old,
                    start[:, None],
                    new.astype(old.dtype),
                    window,
                    unique_indices=True,
                    mode=jax.lax.GatherScatterMode.FILL_OR_DROP,
                )

        else:

            def put(old, new, axis):
                def row(old, new, slots):
                    at = (slice(None),) * axis + (slots,)
                    return old.at[at].set(new.astype(old.dtype), mode="drop", unique_indices=True)

                return jax.vmap(row)(old, new, slots)

        return KVCache(
            layers=tuple(
                LayerEntries(put(old.keys, new.keys, 1), put(old.values, new.values, 1))
                for old, new in zip(self.layers, entries.layers, strict=True)
            ),
            spans=put(self.spans, lives, 0),
            positions=put(self.positions, entries.positions, 0),
            length=length,
        )


def _gather(entries: KVEntries, index: jax.Array) -> KVEntries:
    """The entries at `index [B, A]` of each row."""
    take = lambda x: jnp.take_along_axis(x, index[:, None, :, None], axis=2)
    return KVEntries(
        layers=tuple(LayerEntries(take(e.keys), take(e.values)) for e in entries.layers),
        positions=jnp.take_along_axis(entries.positions, index, axis=1),
    )
