"""The cache contract: committed tokens of fixed capacity, read by a forward and written by commits.

Legend: B rows, A tokens of an accepted path.
"""

from typing import Any, Protocol, runtime_checkable

import jax

Entries = Any


@runtime_checkable
class Cache(Protocol):
    """Committed tokens of B rows: a frozen pytree of fixed capacity with a length a row."""

    length: jax.Array

    @property
    def capacity(self) -> int:
        """Slots a row."""
        ...

    def commit(
        self, entries: Entries, index: jax.Array, count: jax.Array, key_spans: jax.Array
    ) -> "Cache":
        """Appends `entries` at `index [B, A]` of each row, the first `count [B]` of them."""
        ...
