"""Which arrays of a state belong to rows, and how rows take the past of others.

Legend: B rows.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxdec.cache import Cache
from jaxdec.decoding.request import Settings
from jaxdec.decoding.stops import Stops

Tree = TypeVar("Tree")


def by_row(tree: Any, per_row: Callable, shared: Callable) -> Any:
    """Maps the arrays of a request, a state or a record by `per_row`, and each `Stops` as a whole by `shared`.

    The rule goes by structure, never by shape: a vocabulary may well be as large as the batch.
    """
    is_shared = lambda node: isinstance(node, Stops)
    choose = lambda node: shared(node) if is_shared(node) else per_row(node)
    return jax.tree.map(choose, tree, is_leaf=is_shared)


def take_rows(tree: Tree, source: jax.Array) -> Tree:
    """Every row with the past of another: `result[b] = tree[source[b]]` for all that belongs to rows.

    A step that moves rows (`Info.source`) calls this on its own state before it commits: rows, caches and the state of
    a drafter move alike. Settings stay, as the rows of a prompt have the same; and a row goes on to draw with its own
    key. A cache may hold all rows several times over, one copy behind the other (guidance does): each copy moves so.

    Args:
      tree: a state, or a part of one.
      source: int32 `[B]`, the row whose past each row takes; of the same prompt.
    """

    batch = source.shape[0]

    def take(node):
        if isinstance(node, Settings | Stops):
            return node
        if not isinstance(node, Cache):
            return node[source]
        copies = jnp.arange(node.length.shape[0] // batch, dtype=jnp.int32)
        return node.rows((copies[:, None] * batch + source).reshape(-1))

    return jax.tree.map(take, tree, is_leaf=lambda node: isinstance(node, Settings | Stops | Cache))
