"""The cache contract: committed tokens of fixed capacity, read by a forward and written by commits.

A forward reads a cache through `read`, decoders change it through the other operations, and nobody looks inside: so
a cache may round, compress, or hold something else than keys and values, and every decoder takes it. Which cache a
decoder uses is its model's `init_cache`, and what the caller of `generate` makes of that: `cache=` takes a function
from the model's own cache to another one, which is called once, on the empty cache.

Legend: B rows, S slots, T new tokens, A tokens of an accepted path.
"""

from collections.abc import Callable
from typing import Any, Protocol, Self, runtime_checkable

import jax


@runtime_checkable
class Entries(Protocol):
    """What a forward computed for T new tokens, ready to be stored: a frozen pytree."""

    def first(self, count: int) -> Self:
        """The first `count` of the T entries; static."""
        ...


@runtime_checkable
class Cache(Protocol):
    """Committed tokens of B rows: a frozen pytree of fixed capacity; the leading axis of every array is the row.

    `init_cache` of a model gives one. Causal decoding needs `length`, `capacity` and `commit`, and its own forward
    `read`; canvases need `write` and `hide` too, `next_token` and branches `renumber`, what drops tokens that were
    committed `back_to`. A cache without separate tokens raises `ValueError` in those.

    Attributes:
      length: int32 `[B]`, committed tokens.
    """

    length: jax.Array

    @property
    def capacity(self) -> int:
        """Slots a row, S."""
        ...

    @property
    def layers(self) -> int:
        """How many layers there are to `read`."""
        ...

    def read(self, layer: int) -> Any:
        """What a layer's forward reads: for attention `pallas_kernels.span_attention.Keys`, or a `Split` of them.

        That is keys and values `[B, H, S, D]`, spans int32 `[B, S, 2]` (`visibility.EMPTY` where a slot is empty or
        hidden) and positions int32 `[B, S]`. A forward that stops at some layer reads the first ones only.
        """
        ...

    def commit(
        self, entries: Any, index: jax.Array, count: jax.Array, key_spans: jax.Array
    ) -> Self:
        """Appends an accepted path to each row at the row's own length.

        The work is O(A), never O(S). A row that lacks room for A keeps its tokens and its length.

        Args:
          entries: of T new tokens.
          index: int32 `[B, A]`, which new tokens, in path order.
          count: int32 `[B]`, how many of them, 0 to A; what stands in `index` after them is arbitrary but valid.
          key_spans: int32 `[B, A, 2]`, the spans that the stored tokens live over from now on.
        """
        ...

    def write(self, entries: Any, slots: jax.Array, key_spans: jax.Array) -> Self:
        """Overwrites chosen slots; lengths stay.

        Args:
          entries: of T new tokens.
          slots: int32 `[B, T]`; a slot outside `[0, S)` is skipped. Slots of one row differ.
          key_spans: int32 `[B, T, 2]`.
        """
        ...

    def hide(self, slots: jax.Array) -> Self:
        """The cache without some slots, bool `[B, S]`, to be read once: nobody sees them. Entries are not touched."""
        ...

    def renumber(self, change: Callable[[jax.Array], jax.Array]) -> Self:
        """The cache with other spans, to be read once: `change` maps int32 `[B, S, 2]` to the same shape.

        It has to keep `visibility.EMPTY` a span that nobody sees, and to treat all slots alike: a cache that is split
        over devices calls it on those that a device holds. Entries are not touched.
        """
        ...

    def rows(self, index: jax.Array) -> Self:
        """Row `index [N]` int32 in place of each row: rows may come twice, or not at all."""
        ...

    def back_to(self, length: jax.Array) -> Self:
        """The cache with the first `length` tokens of each row alone, int32 `[B]`; rows that hold no more stay.

        Nobody sees the tokens after these, and the next commit overwrites them.
        """
        ...
