"""The key-value cache: fixed capacity, a length a row, and spans instead of masks.

Legend: B rows, S slots, T new tokens, A tokens of an accepted path, H key-value heads, D head width, L layers.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdec import visibility
from pallas_kernels.commit import commit, write, write_slots, write_windows
from pallas_kernels.dispatch import Implementation
from pallas_kernels.span_attention import Keys

LONG = 128
"""Tokens from which on a path is a prompt: read once, by plain XLA, which needs no room for all of it on the chip."""


WIDE = 512
"""Tokens above which a refresh is that of a whole canvas, by plain XLA as well."""


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

    def at(self, index: jax.Array) -> "KVEntries":
        """Those of new tokens `index`, int32 `[B, A]`: A entries in that order."""
        pick = lambda x: jnp.take_along_axis(x, index[:, None, :, None], axis=2)
        positions = jnp.take_along_axis(self.positions, index, axis=1)
        return KVEntries(jax.tree.map(pick, self.layers), positions)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values of committed tokens; see `jaxdec.cache.Cache`.

    Heads come before slots, so that attention reads each layer as it lies in memory.

    Attributes:
      stored: keys and values `[B, H, S, D]` a layer.
      spans: int32 `[B, S, 2]`, the span over which each slot is seen; `visibility.EMPTY` for an empty slot.
      positions: int32 `[B, S]`.
      length: int32 `[B]`, slots in use.
    """

    stored: tuple[LayerEntries, ...]
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
            stored=tuple(LayerEntries(zeros(), zeros()) for _ in range(layers)),
            spans=jnp.broadcast_to(jnp.asarray(visibility.EMPTY), (batch, capacity, 2)),
            positions=jnp.zeros((batch, capacity), jnp.int32),
            length=jnp.zeros((batch,), jnp.int32),
        )

    @property
    def capacity(self) -> int:
        """Slots a row, S."""
        return self.spans.shape[1]

    @property
    def layers(self) -> int:
        """Layers, L."""
        return len(self.stored)

    @property
    def slot_axes(self) -> tuple[int | None, ...]:
        """The axis of the slots of each array, in the order of the leaves; None for an array without slots."""
        axes = {4: 2, 3: 1, 2: 1}
        return tuple(axes.get(x.ndim) for x in jax.tree.leaves(self))

    def read(self, layer: int) -> Keys:
        """Keys, values, spans and positions of one layer, as attention takes them."""
        return Keys(*self.stored[layer], self.spans, self.positions)

    def commit(
        self, entries: KVEntries, index: jax.Array, count: jax.Array, key_spans: jax.Array
    ) -> "KVCache":
        """Appends an accepted path to each row at the row's own length: O(A) a layer, never O(S).

        Slots past `count`, up to A, may be written too, with an empty span; the next commit overwrites them. What is
        written depends on `count`, and so on the forward that read the cache: the compiler sees that the reads come
        first and updates the cache in place.

        The caller keeps `length + A <= S` for rows with `count > 0`. A row that lacks the room keeps its committed
        slots and its length (`count` is taken as 0).

        Args:
          entries: of T new tokens.
          index: int32 `[B, A]`, which new tokens, in path order.
          count: int32 `[B]`, how many of them, 0 to A.
          key_spans: int32 `[B, A, 2]`, the spans that the stored tokens live over from now on.
        """
        width = index.shape[1]
        count = jnp.where(self.length + width <= self.capacity, count, 0)
        kept = jnp.arange(width) < count[:, None]
        key_spans = jnp.where(kept[..., None], key_spans, visibility.EMPTY)
        positions = jnp.take_along_axis(entries.positions, index, axis=1)
        long = max(width, entries.positions.shape[1]) > LONG
        implementation: Implementation | None = "reference" if long else None

        def put(old, new):
            return write_windows(old, new.astype(old.dtype), self.length, count > 0, axis=1)

        return KVCache(
            stored=tuple(
                commit(old, new, index, self.length, count, implementation=implementation)
                for old, new in zip(self.stored, entries.layers, strict=True)
            ),
            spans=put(self.spans, key_spans),
            positions=put(self.positions, positions),
            length=self.length + count,
        )

    def write(self, entries: KVEntries, slots: jax.Array, key_spans: jax.Array) -> "KVCache":
        """Overwrites chosen slots with new entries; lengths stay.

        Serves caches that refresh committed places (canvas decoding).

        Args:
          entries: of T new tokens.
          slots: int32 `[B, T]`; a slot outside `[0, S)` is skipped. Slots of one row differ.
          key_spans: int32 `[B, T, 2]`, the spans of the stored tokens.
        """
        implementation: Implementation | None = "reference" if slots.shape[1] > WIDE else None
        put = lambda old, new: write_slots(old, new, slots, axis=1)
        return KVCache(
            stored=tuple(
                write(old, new, slots, implementation=implementation)
                for old, new in zip(self.stored, entries.layers, strict=True)
            ),
            spans=put(self.spans, key_spans),
            positions=put(self.positions, entries.positions),
            length=self.length,
        )

    def hide(self, slots: jax.Array) -> "KVCache":
        """The cache without some slots, bool `[B, S]`; entries are not touched."""
        return self.renumber(lambda spans: jnp.where(slots[..., None], visibility.EMPTY, spans))

    def renumber(self, change: Callable[[jax.Array], jax.Array]) -> "KVCache":
        """The cache with other spans; entries are not touched."""
        return dataclasses.replace(self, spans=change(self.spans))

    def rows(self, index: jax.Array) -> "KVCache":
        """Row `index [N]` in place of each row."""
        return jax.tree.map(lambda x: x[index], self)

    def back_to(self, length: jax.Array) -> "KVCache":
        """The first `length [B]` tokens of each row alone; O(S) in spans, entries are not touched."""
        later = jnp.arange(self.capacity, dtype=jnp.int32) >= length[:, None]
        return dataclasses.replace(self.hide(later), length=jnp.minimum(self.length, length))
