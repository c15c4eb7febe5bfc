"""The cache of networks that attend to what they committed and sum it up too: slots, and a state beside them.

Legend: B rows, S slots, T new tokens, A tokens of an accepted path.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NoReturn

import jax

from jaxdec.cache.recurrent import RecurrentCache, RecurrentEntries


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SummedEntries:
    """What a forward computed for new tokens, for both parts of a `SummedCache`.

    Attributes:
      slots: what attention stores, of T tokens.
      states: the states after each of them.
    """

    slots: Any
    states: RecurrentEntries

    def first(self, count: int) -> "SummedEntries":
        """Those of the first `count` of the T tokens; static."""
        return SummedEntries(self.slots.first(count), self.states.first(count))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SummedCache:
    """A cache of slots, and a state after the committed tokens beside it; see `jaxdec.cache.Cache`.

    Attributes:
      slots: what is attended to.
      states: what a recurrence starts from.
    """

    slots: Any
    states: RecurrentCache

    @classmethod
    def create(cls, slots: Any, states: tuple[Any, ...]) -> "SummedCache":
        """No tokens: an empty cache, and the states `[B, ...]` that a sequence starts from."""
        return cls(slots, RecurrentCache.create(states, slots.capacity))

    @property
    def length(self) -> jax.Array:
        """Committed tokens, int32 `[B]`."""
        return self.slots.length

    @property
    def capacity(self) -> int:
        """Slots a row, S."""
        return self.slots.capacity

    @property
    def layers(self) -> int:
        """Layers of attention."""
        return self.slots.layers

    def read(self, layer: int) -> Any:
        """What a layer's attention reads; states are read by name."""
        return self.slots.read(layer)

    def commit(
        self, entries: SummedEntries, index: jax.Array, count: jax.Array, key_spans: jax.Array
    ) -> "SummedCache":
        """Appends an accepted path to the slots of each row, and takes the state after its last token.

        Args:
          entries: of T new tokens.
          index: int32 `[B, A]`, which new tokens, in path order.
          count: int32 `[B]`, how many of them, 0 to A.
          key_spans: int32 `[B, A, 2]`, the spans that the stored tokens live over from now on.
        """
        return SummedCache(
            self.slots.commit(entries.slots, index, count, key_spans),
            self.states.commit(entries.states, index, count, key_spans),
        )

    def write(self, entries: Any, slots: jax.Array, key_spans: jax.Array) -> NoReturn:
        """Raises `ValueError`: states sum up all tokens."""
        self.states.write(entries, slots, key_spans)

    def hide(self, slots: jax.Array) -> NoReturn:
        """Raises `ValueError`: states sum up all tokens."""
        self.states.hide(slots)

    def renumber(self, change: Callable[[jax.Array], jax.Array]) -> "SummedCache":
        """The cache with other spans of its slots; states have none."""
        return dataclasses.replace(self, slots=self.slots.renumber(change))

    def rows(self, index: jax.Array) -> "SummedCache":
        """Row `index [N]` in place of each row."""
        return SummedCache(self.slots.rows(index), self.states.rows(index))

    def back_to(self, length: jax.Array) -> NoReturn:
        """Raises `ValueError`: what a token did to a state cannot be undone."""
        self.states.back_to(length)
