"""A cache against rows that are Python lists."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.cache import KVCache, KVEntries, LayerEntries

B, HEADS, WIDTH, LAYERS = 3, 2, 4, 2


def kv_cache(batch: int, capacity: int) -> KVCache:
    """An empty key-value cache of two layers."""
    return KVCache.create(
        layers=LAYERS, batch=batch, capacity=capacity, heads=HEADS, head_dim=WIDTH
    )


def kv_entries(tokens: int, seed: int) -> KVEntries:
    """Random entries for it."""
    rng = np.random.default_rng(seed)
    draw = lambda: jnp.asarray(rng.normal(size=(B, HEADS, tokens, WIDTH)), jnp.float32)
    layers = tuple(LayerEntries(draw(), draw()) for _ in range(LAYERS))
    return KVEntries(layers, jnp.asarray(rng.integers(0, 99, (B, tokens)), jnp.int32))


def _slots(cache: Any) -> list[list[tuple[np.ndarray, ...]]]:
    """Span, position, keys and values of every slot of every row."""
    read = [cache.read(layer) for layer in range(cache.layers)]
    leaves = [np.asarray(x).swapaxes(1, 2) for keys in read for x in (keys.keys, keys.values)]
    columns = [np.asarray(read[0].key_spans), np.asarray(read[0].positions), *leaves]
    return [[tuple(c[b, s] for c in columns) for s in range(cache.capacity)] for b in range(B)]


def _tokens(entries: Any, key_spans: Any) -> Callable[[int, int, int], tuple[np.ndarray, ...]]:
    """What slot `place` of a path holds of token `index` in row `b`."""
    leaves = [np.asarray(x).swapaxes(1, 2) for layer in entries.layers for x in layer]
    columns = [np.asarray(entries.positions), *leaves]
    spans = np.asarray(key_spans)
    return lambda b, index, place: (spans[b, place], *(c[b, index] for c in columns))


def _compare(cache: Any, rows: list[list[tuple[np.ndarray, ...]]], what: str) -> None:
    lengths = np.asarray(cache.length).tolist()
    assert lengths == [len(row) for row in rows], f"{what}: lengths {lengths}"
    for b, (held, wanted) in enumerate(zip(_slots(cache), rows, strict=True)):
        for s, slot in enumerate(held):
            if s >= len(wanted):
                assert (slot[0] == visibility.EMPTY).all(), f"{what}: slot {s} of row {b} is seen"
                continue
            for one, two in zip(slot, wanted[s], strict=True):
                np.testing.assert_array_equal(one, two, f"{what}: slot {s} of row {b}")


def check_cache(
    create: Callable[[int, int], Any] = kv_cache, entries: Callable[[int, int], Any] = kv_entries
) -> None:
    """Commits append paths while there is room, down to the last slot; writes change the chosen slots alone.

    Views hide slots, renumber spans and move rows, and leave the cache as it is. What goes back to fewer tokens holds
    these alone, and takes others after them.

    Args:
      create: `(batch, capacity) -> cache` for batches of 3.
      entries: `(tokens, seed) -> entries` of so many new tokens of 3 rows.
    """
    capacity = 10
    cache = create(B, capacity)
    rows: list[list[tuple[np.ndarray, ...]]] = [[] for _ in range(B)]
    _compare(cache, rows, "empty")
    commit, rng = jax.jit(type(cache).commit), np.random.default_rng(0)
    # The first row is filled to its last slot and then refused; the others stay behind.
    for step, count in enumerate(
        ([3, 2, 0], [2, 1, 3], [2, 3, 1], [3, 0, 2], [1, 3, 3], [1, 1, 0])
    ):
        new = entries(5, step)
        index = rng.permuted(np.tile(np.arange(5), (B, 1)), axis=1)[:, :3]
        key_spans = rng.integers(0, 50, (B, 3, 2))
        given = (jnp.asarray(x, jnp.int32) for x in (index, count, key_spans))
        cache = commit(cache, new, *given)
        token = _tokens(new, key_spans)
        for b in range(B):
            if len(rows[b]) + 3 <= capacity:
                rows[b] += [token(b, index[b, place], place) for place in range(count[b])]
        _compare(cache, rows, f"commit {step}")
    assert max(map(len, rows)) == capacity

    before, new = _slots(cache), entries(3, 99)
    slots, key_spans = np.array([[5, -1, 0], [capacity, 2, -3], [-1, 1, 99]]), np.full((B, 3, 2), 7)
    after = jax.jit(type(cache).write)(
        cache, new, jnp.asarray(slots), jnp.asarray(key_spans, jnp.int32)
    )
    token = _tokens(new, key_spans)
    np.testing.assert_array_equal(after.length, cache.length)
    for b, held in enumerate(_slots(after)):
        for s, slot in enumerate(held):
            at = np.flatnonzero(slots[b] == s)
            wanted = token(b, at[0], at[0]) if at.size else before[b][s]
            for one, two in zip(slot, wanted, strict=True):
                np.testing.assert_array_equal(one, two, f"write: slot {s} of row {b}")

    hidden = np.random.default_rng(1).random((B, capacity)) < 0.5
    order = np.array([2, 0, 2])
    views: tuple[tuple[str, Any, Callable[[int, int], tuple[np.ndarray, ...]]], ...] = (
        (
            "hide",
            cache.hide(jnp.asarray(hidden)),
            lambda b, s: _emptied(before[b][s], bool(hidden[b, s])),
        ),
        (
            "renumber",
            cache.renumber(lambda spans: spans + 3),
            lambda b, s: _raised(before[b][s], 3),
        ),
        ("rows", cache.rows(jnp.asarray(order)), lambda b, s: before[order[b]][s]),
    )
    for what, view, changed in views:
        for b, held in enumerate(_slots(view)):
            for s, slot in enumerate(held):
                for one, two in zip(slot, changed(b, s), strict=True):
                    np.testing.assert_array_equal(one, two, f"{what}: slot {s} of row {b}")
    _check_back(cache, rows, entries, commit)


def _check_back(
    cache: Any,
    rows: list[list[tuple[np.ndarray, ...]]],
    entries: Callable[[int, int], Any],
    commit: Callable[..., Any],
) -> None:
    """A cache that goes back to fewer tokens holds these alone, and takes others after them."""
    fewer = [4, 99, 0]
    rows = [row[:size] for row, size in zip(rows, fewer, strict=True)]
    cache = cache.back_to(jnp.asarray(fewer, jnp.int32))
    _compare(cache, rows, "back to")
    new, key_spans = entries(5, 7), np.full((B, 3, 2), 5)
    path, count = np.tile([1, 3, 4], (B, 1)), [2, 0, 3]
    given = (jnp.asarray(x, jnp.int32) for x in (path, count, key_spans))
    cache, token = commit(cache, new, *given), _tokens(new, key_spans)
    for b in range(B):
        rows[b] += [token(b, path[b, place], place) for place in range(count[b])]
    _compare(cache, rows, "a commit after going back")


def _emptied(slot: tuple[np.ndarray, ...], hidden: bool) -> tuple[np.ndarray, ...]:
    return (visibility.EMPTY, *slot[1:]) if hidden else slot


def _raised(slot: tuple[np.ndarray, ...], more: int) -> tuple[np.ndarray, ...]:
    return (slot[0] + more, *slot[1:])
