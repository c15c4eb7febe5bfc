"""Rows of large arrays that change places: only what moves is copied, in place.

Legend: N rows, S slots; P prompts, W hypotheses of each.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxdec.decoding.in_place import once

Tree = TypeVar("Tree")

SMALL = 1 << 15
"""Bytes of a row from which on its own copy is worth a round of a loop."""

BLOCK = 64
"""Slots that are copied at once."""


class Window(NamedTuple):
    """Where rows differ from those that they may take the past of.

    Attributes:
      axes: the axis of the slots of each array of a tree, in the order of its leaves; None for an array without.
      first: int32 `[N]`, the first slot of each row that may differ.
      last: int32 `[N]`, slots of each row from which on nothing is held.
    """

    axes: tuple[int | None, ...]
    first: jax.Array
    last: jax.Array


def move_rows(tree: Tree, source: jax.Array, window: Window | None = None) -> Tree:
    """Every row with what another holds: `result[n] = tree[source[n]]`, for all arrays `[N, ...]` of a tree.

    Rows that stay cost nothing. Each of the others is copied once, as soon as nobody has to read what it holds; where
    none is left but cycles, two rows of one are exchanged at a time. `at_home` makes moves without cycles. Rows of less
    than `SMALL` bytes are not worth that: all are gathered.

    Args:
      tree: arrays `[N, ...]`, given away by the caller if they are to change in place.
      source: int32 `[N]`.
      window: the slots that have to be copied; all if not given.
    """
    leaves, structure = jax.tree.flatten(tree)
    if sum(x.dtype.itemsize * math.prod(x.shape[1:]) for x in leaves) < SMALL:
        return jax.tree.map(lambda x: x[source], tree)
    count = source.shape[0]
    row = jnp.arange(count, dtype=jnp.int32)
    whole = Window((None,) * len(leaves), jnp.zeros_like(row), jnp.ones_like(row))
    blocks = _Blocks.of(leaves, whole if window is None else window)

    def moved(leaves: list[jax.Array]) -> list[jax.Array]:
        copy = lambda carry: _copy_free(blocks, *carry)
        start = source, leaves, blocks.buffer(leaves, 1)
        free = lambda carry: _free(carry[0]).any()
        left, leaves, _ = jax.lax.while_loop(free, copy, start)
        return once((left != row).any(), lambda leaves: exchanged(left, leaves), leaves)

    def exchanged(source: jax.Array, leaves: list[jax.Array]) -> list[jax.Array]:
        all_of = _Blocks.of(leaves, whole)
        exchange = lambda carry: _exchange(all_of, *carry)
        start = source, leaves, all_of.buffer(leaves, 2)
        return jax.lax.while_loop(lambda carry: (carry[0] != row).any(), exchange, start)[1]

    found = once((source != row).any(), moved, leaves)
    return jax.tree.unflatten(structure, found)


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


def _free(source: jax.Array) -> jax.Array:
    """The rows that move and that no other row reads, bool `[N]`."""
    count = source.shape[0]
    moves = source != jnp.arange(count, dtype=jnp.int32)
    read = jnp.zeros((count,), bool)
    read = read.at[jnp.where(moves, source, count)].set(True, mode="drop")
    return moves & ~read


class _Blocks(NamedTuple):
    """How arrays are cut into blocks of `width` slots; `first` and `last` of a window, in blocks."""

    axes: tuple[int | None, ...]
    width: int
    first: jax.Array
    last: jax.Array

    @classmethod
    def of(cls, leaves: list[jax.Array], window: Window) -> "_Blocks":
        slots = [
            x.shape[axis] for x, axis in zip(leaves, window.axes, strict=True) if axis is not None
        ]
        width = min(BLOCK, *slots) if slots else 1
        return cls(window.axes, width, window.first // width, -(-window.last // width))

    def shape(self, x: jax.Array, axis: int | None) -> tuple[int, ...]:
        """Of a block of one row."""
        return (1, *(self.width if i == axis else x.shape[i] for i in range(1, x.ndim)))

    def buffer(self, leaves: list[jax.Array], rows: int) -> list[jax.Array]:
        """Room for a block of some rows."""
        return [
            jnp.zeros((rows, *self.shape(x, axis)[1:]), x.dtype)
            for x, axis in zip(leaves, self.axes, strict=True)
        ]

    def start(self, x: jax.Array, axis: int | None, row: jax.Array, block: jax.Array) -> list:
        """Where a block begins; the last one of a row ends with it."""
        none = jnp.zeros_like(row)
        return [row, *(block * self.width if i == axis else none for i in range(1, x.ndim))]

    def each(self, change: Callable, leaves: list[jax.Array], *more: list) -> list:
        return [
            change(x, axis, *rest) for x, axis, *rest in zip(leaves, self.axes, *more, strict=True)
        ]

    def fetch(
        self, leaves: list[jax.Array], held: list, rows: list, block: jax.Array, wanted: jax.Array
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """The arrays, and a block of some rows, in a buffer that has held others.

        In a loop of its own: a compiler that reads and writes one array in one operation copies it.
        """

        def read(carry):
            leaves, _ = carry
            cut = lambda x, axis: jnp.concatenate(
                [
                    jax.lax.dynamic_slice(x, self.start(x, axis, n, block), self.shape(x, axis))
                    for n in rows
                ]
            )
            return leaves, self.each(cut, leaves)

        return once(wanted, read, (leaves, held))

    def put(self, leaves: list[jax.Array], held: list, row: jax.Array, block: jax.Array) -> list:
        """The arrays with a block in a row."""
        write = lambda x, axis, new: jax.lax.dynamic_update_slice(
            x, new, self.start(x, axis, row, block)
        )
        return self.each(write, leaves, held)


def _copy_free(blocks: _Blocks, source: jax.Array, leaves: list, held: list) -> tuple:
    """Copies to all rows that are free; others may be free afterwards."""
    some = _free(source)
    order = jnp.argsort(~some, stable=True).astype(jnp.int32)
    most = some.sum(dtype=jnp.int32)

    def copy(carry):
        n, block, leaves, held = carry
        at = order[n]
        origin = source[at]
        leaves, held = blocks.fetch(leaves, held, [origin], block, origin != at)
        leaves = blocks.put(leaves, held, at, block)
        # What the row held itself behind the other's last slot is overwritten too.
        done = block + 1 >= jnp.maximum(blocks.last[origin], blocks.last[at])
        after = blocks.first[order[jnp.minimum(n + 1, order.shape[0] - 1)]]
        return n + done, jnp.where(done, after, block + 1), leaves, held

    start = jnp.int32(0), blocks.first[order[0]], leaves, held
    _, _, leaves, held = jax.lax.while_loop(lambda carry: carry[0] < most, copy, start)
    row = jnp.arange(source.shape[0], dtype=jnp.int32)
    return jnp.where(some, row, source), leaves, held


def _exchange(blocks: _Blocks, source: jax.Array, leaves: list, held: list) -> tuple:
    """Exchanges a row with the one that it takes the past of."""
    row = jnp.arange(source.shape[0], dtype=jnp.int32)
    at = jnp.argmax(source != row).astype(jnp.int32)
    other, none = source[at], jnp.int32(0)
    leaves, held = blocks.fetch(leaves, held, [other, at], none, other != at)
    # Who wants what was here finds it in the other place.
    source = jnp.where(source == at, other, source).at[at].set(at)
    its, mine = ([x[n : n + 1] for x in held] for n in (0, 1))
    return source, blocks.put(blocks.put(leaves, its, at, none), mine, other, none), held
