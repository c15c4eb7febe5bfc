"""Rows of large arrays that change places: only what moves is copied, in place.

Legend: N rows; P prompts, W hypotheses of each.
"""

import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxdec.decoding.in_place import once

Tree = TypeVar("Tree")

SMALL = 1 << 15
"""Bytes of a row from which on its own copy is worth a round of a loop."""


def move_rows(tree: Tree, source: jax.Array) -> Tree:
    """Every row with what another holds: `result[n] = tree[source[n]]`, for all arrays `[N, ...]` of a tree.

    Rows that stay cost nothing. Each of the others is copied once, as soon as nobody has to read what it holds; where
    none is left but cycles, two rows of one are exchanged at a time. `at_home` makes moves without cycles. Rows of less
    than `SMALL` bytes are not worth that: all are gathered.

    Args:
      tree: arrays `[N, ...]`, given away by the caller if they are to change in place.
      source: int32 `[N]`.
    """
    held = sum(x.dtype.itemsize * math.prod(x.shape[1:]) for x in jax.tree.leaves(tree))
    if held < SMALL:
        return jax.tree.map(lambda x: x[source], tree)
    count = source.shape[0]
    row = jnp.arange(count, dtype=jnp.int32)

    def free(source: jax.Array) -> jax.Array:
        """The rows that move and that no other row reads."""
        moves = source != row
        read = jnp.zeros((count,), bool)
        read = read.at[jnp.where(moves, source, count)].set(True, mode="drop")
        return moves & ~read

    def copy_all(carry):
        """Copies to all rows that are free; others may be free afterwards."""
        source, tree, held = carry
        some = free(source)
        order = jnp.argsort(~some, stable=True).astype(jnp.int32)

        def copy(carry):
            n, tree, held = carry
            at = order[n]
            tree, held = _fetched(tree, held, source[at][None], source[at] != at)
            return n + 1, _put(tree, held, at), held

        most = some.sum(dtype=jnp.int32)
        start = jnp.int32(0), tree, held
        _, tree, held = jax.lax.while_loop(lambda carry: carry[0] < most, copy, start)
        return jnp.where(some, row, source), tree, held

    def exchange(carry):
        source, tree, held = carry
        at = jnp.argmax(source != row).astype(jnp.int32)
        other = source[at]
        tree, held = _fetched(tree, held, jnp.stack([other, at]), other != at)
        # Who wants what was here finds it in the other place.
        source = jnp.where(source == at, other, source).at[at].set(at)
        its, mine = (jax.tree.map(lambda x, n=n: x[n : n + 1], held) for n in (0, 1))
        return source, _put(_put(tree, its, at), mine, other), held

    def moved(tree: Tree) -> Tree:
        buffer = lambda rows: jax.tree.map(lambda x: jnp.zeros((rows, *x.shape[1:]), x.dtype), tree)
        start = source, tree, buffer(1)
        left, tree, _ = jax.lax.while_loop(lambda carry: free(carry[0]).any(), copy_all, start)
        start = left, tree, buffer(2)
        return jax.lax.while_loop(lambda carry: (carry[0] != row).any(), exchange, start)[1]

    return once((source != row).any(), moved, tree)


def at_home(source: jax.Array) -> jax.Array:
    """An arrangement of new hypotheses in which each past that goes on stays in its place once, and the fewest move.

    Args:
      source: int32 `[..., W]`, the place, 0 to W - 1, whose past each new hypothesis continues.

    Returns:
      int32 `[..., W]`: which new hypothesis stands in each place. The first that continues the past of place w stands
      in place w, the others in places whose past ends, in order.
    """
    places = jnp.arange(source.shape[-1], dtype=jnp.int32)
    earlier = places[None, :] < places[:, None]
    first = ~((source[..., :, None] == source[..., None, :]) & earlier).any(-1)
    home = first[..., None, :] & (source[..., None, :] == places[:, None])  # [place, new]
    taken = home.any(-1)
    rank = lambda wanted: jnp.cumsum(wanted, axis=-1, dtype=jnp.int32)
    fills = (rank(~taken)[..., :, None] == rank(~first)[..., None, :]) & ~first[..., None, :]
    return jnp.argmax(jnp.where(taken[..., None], home, fills), axis=-1).astype(jnp.int32)


def _fetched(tree: Any, held: Any, at: jax.Array, wanted: jax.Array) -> tuple[Any, Any]:
    """The tree, and what its rows `at [R]` hold, in a buffer of R rows that has held others.

    In a loop of its own: a compiler that reads and writes one array in one operation copies it.
    """

    def fetch(carry):
        tree, _ = carry
        read = lambda x: [jax.lax.dynamic_slice_in_dim(x, n, 1, axis=0) for n in at]
        return tree, jax.tree.map(lambda x: jnp.concatenate(read(x)), tree)

    return once(wanted, fetch, (tree, held))


def _put(tree: Any, row: Any, at: jax.Array) -> Any:
    put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, at, axis=0)
    return jax.tree.map(put, tree, row)
