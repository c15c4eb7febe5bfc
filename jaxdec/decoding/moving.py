"""Which arrays of a state belong to rows, and how rows take the past of others.

Legend: B rows.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxdec.cache import Cache
from jaxdec.decoding.request import Settings
from jaxdec.decoding.row_moves import move_rows
from jaxdec.decoding.stops import Stops
from jaxdec.sampling import StateTable

Tree = TypeVar("Tree")

SHARED = (Stops, StateTable)
"""What all rows of a batch share, in whatever tree it stands."""


def by_row(tree: Any, per_row: Callable, shared: Callable) -> Any:
    """Maps the arrays of a request, a state or a record by `per_row`, and each that is `SHARED` as a whole by `shared`.

    The rule goes by structure, never by shape: a vocabulary may well be as large as the batch.
    """
    is_shared = lambda node: isinstance(node, SHARED)
    choose = lambda node: shared(node) if is_shared(node) else per_row(node)
    return jax.tree.map(choose, tree, is_leaf=is_shared)


def take_rows(tree: Tree, source: jax.Array) -> Tree:
    """Every row with the past of another: `result[b] = tree[source[b]]` for all that belongs to rows.

    A step that moves rows (`Info.source`) calls this on its own state before it commits: rows, caches and the state of
    a drafter move alike. Settings stay: a row goes on with its own knobs, as it goes on to draw with its own key. A
    cache may hold all rows several times over, one copy behind the other (guidance does): each copy moves so. Of caches
    only the rows that move are copied (`move_rows`).

    Args:
      tree: a state, or a part of one.
      source: int32 `[B]`, the row whose past each row takes; of the same prompt.
    """

    batch = source.shape[0]

    def take(node):
        if isinstance(node, (Settings, *SHARED)):
            return node
        if not isinstance(node, Cache):
            return node[source]
        copies = jnp.arange(node.length.shape[0] // batch, dtype=jnp.int32)
        return move_rows(node, (copies[:, None] * batch + source).reshape(-1))

    return jax.tree.map(
        take, tree, is_leaf=lambda node: isinstance(node, (Settings, *SHARED, Cache))
    )


def repeat_row(tree: Tree, batch: int) -> Tree:
    """The state of one row `[1, ...]` in each of `batch` rows; what rows share stays."""

    def repeat(node):
        if isinstance(node, SHARED):
            return node
        if not isinstance(node, Cache):
            return jnp.repeat(node, batch, axis=0)
        return node.rows(jnp.repeat(jnp.arange(node.length.shape[0], dtype=jnp.int32), batch))

    return jax.tree.map(repeat, tree, is_leaf=lambda node: isinstance(node, (*SHARED, Cache)))


def put_row(tree: Tree, row: Tree, at: jax.Array) -> Tree:
    """A state whose row `at` is that of another state, `row`, of one row: settings, rows, caches and all else alike.

    What rows share stays. A cache that holds all rows several times over gets each copy.

    Args:
      tree: a state of B rows, or a part of one.
      row: the same of one row.
      at: int32 `[]`.
    """

    def put(node, new):
        if isinstance(node, SHARED):
            return node
        if not isinstance(node, Cache):
            return _put(node, new, at)
        copies = new.length.shape[0]
        batch = node.length.shape[0] // copies
        for copy in range(copies):
            own = jax.tree.map(lambda x, copy=copy: x[copy : copy + 1], new)
            node = jax.tree.map(lambda x, y, copy=copy: _put(x, y, at + copy * batch), node, own)
        return node

    return jax.tree.map(put, tree, row, is_leaf=lambda node: isinstance(node, (*SHARED, Cache)))


def _put(old: jax.Array, new: jax.Array, at: jax.Array) -> jax.Array:
    new = new if new.dtype == old.dtype else new.astype(old.dtype)
    return jax.lax.dynamic_update_slice_in_dim(old, new, at, axis=0)
