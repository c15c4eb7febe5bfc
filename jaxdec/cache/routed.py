"""A cache that remembers which layers run for each row.

Legend: B rows, L layers, S slots, T new tokens, A tokens of an accepted path.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.cache.contract import Cache


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoutedEntries:
    """What a forward computed for new tokens, and which layers it ran.

    Attributes:
      inner: the entries of the layers.
      keep: bool `[B]`, one a layer.
    """

    inner: Any
    keep: tuple[jax.Array, ...]

    def first(self, count: int) -> "RoutedEntries":
        """The first `count` of the T entries; static."""
        return RoutedEntries(self.inner.first(count), self.keep)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoutedCache:
    """A cache whose rows keep the layers that ran for their first tokens; see `jaxdec.cache.Cache`.

    The first commit decides for good: keys of the layers that did not run are those of nothing.

    Attributes:
      inner: committed tokens.
      keep: bool `[B]`, one a layer: whether it runs.
      routed: bool `[B]`, rows that are decided.
    """

    inner: Any
    keep: tuple[jax.Array, ...]
    routed: jax.Array

    @classmethod
    def around(cls, cache: Cache) -> "RoutedCache":
        """An empty cache whose rows are open."""
        batch = cache.length.shape[0]
        keep = tuple(jnp.ones((batch,), bool) for _ in range(cache.layers))
        return cls(cache, keep, jnp.zeros((batch,), bool))

    @property
    def length(self) -> jax.Array:
        """Committed tokens, int32 `[B]`."""
        return self.inner.length

    @property
    def capacity(self) -> int:
        """Slots a row, S."""
        return self.inner.capacity

    @property
    def layers(self) -> int:
        """Layers, L."""
        return self.inner.layers

    @property
    def slot_axes(self) -> tuple[int | None, ...] | None:
        """The axis of the slots of each array; None where the cache within does not say."""
        axes = getattr(self.inner, "slot_axes", None)
        return None if axes is None else (*axes, *(None,) * (len(self.keep) + 1))

    def read(self, layer: int) -> Any:
        """See `Cache`."""
        return self.inner.read(layer)

    def decided(self, layer: int, otherwise: jax.Array) -> jax.Array:
        """Whether a layer runs, bool `[B]`; `otherwise` for rows that are open."""
        return jnp.where(self.routed, self.keep[layer], otherwise)

    def commit(
        self, entries: RoutedEntries, index: jax.Array, count: jax.Array, key_spans: jax.Array
    ) -> "RoutedCache":
        """See `Cache`; rows that were open are decided as the entries say, whether they commit anything or not."""
        inner = self.inner.commit(entries.inner, index, count, key_spans)
        keep = tuple(map(self.decided, range(len(self.keep)), entries.keep))
        return RoutedCache(inner, keep, jnp.ones_like(self.routed))

    def write(self, entries: RoutedEntries, slots: jax.Array, key_spans: jax.Array) -> Any:
        """See `Cache`; decides nothing."""
        return dataclasses.replace(self, inner=self.inner.write(entries.inner, slots, key_spans))

    def hide(self, slots: jax.Array) -> "RoutedCache":
        """See `Cache`."""
        return dataclasses.replace(self, inner=self.inner.hide(slots))

    def renumber(self, change: Callable[[jax.Array], jax.Array]) -> "RoutedCache":
        """See `Cache`."""
        return dataclasses.replace(self, inner=self.inner.renumber(change))

    def rows(self, index: jax.Array) -> "RoutedCache":
        """See `Cache`."""
        keep = tuple(kept[index] for kept in self.keep)
        return RoutedCache(self.inner.rows(index), keep, self.routed[index])

    def back_to(self, length: jax.Array) -> "RoutedCache":
        """See `Cache`; what was decided stays."""
        return dataclasses.replace(self, inner=self.inner.back_to(length))
