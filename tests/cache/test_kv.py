"""The key-value cache: what a commit stores, what it leaves alone, and what it costs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import visibility
from jaxdec.cache import KVCache, KVEntries, LayerEntries

pytestmark = pytest.mark.usefixtures("quick_compilation")

B, H, S, D, LAYERS = 3, 2, 12, 4, 2
commit = jax.jit(KVCache.commit)


def empty(batch=B, capacity=S):
    return KVCache.create(layers=LAYERS, batch=batch, capacity=capacity, heads=H, head_dim=D)


def entries(tokens, seed=0, batch=B):
    rng = np.random.default_rng(seed)
    draw = lambda: jnp.asarray(rng.normal(size=(batch, H, tokens, D)), jnp.float32)
    layers = tuple(LayerEntries(draw(), draw()) for _ in range(LAYERS))
    return KVEntries(layers, jnp.asarray(rng.integers(0, 99, (batch, tokens)), jnp.int32))


def spans(tokens, seed=0, batch=B):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 50, (batch, tokens, 2)), jnp.int32)


class Twin:
    """Rows as Python lists of (span, position, keys and values of every layer)."""

    def __init__(self, batch=B):
        self.rows = [[] for _ in range(batch)]

    def commit(self, new, index, count, key_spans, capacity=S):
        for b, row in enumerate(self.rows):
            if len(row) + index.shape[1] > capacity:
                continue
            for place in range(int(count[b])):
                row.append(token(new, b, int(index[b, place]), key_spans[b, place]))


def token(new, row, at, span):
    parts = [np.asarray(x)[row, :, at] for layer in new.layers for x in layer]
    return np.asarray(span), int(new.positions[row, at]), parts


def slot(cache, row, at):
    parts = [np.asarray(x)[row, :, at] for layer in cache.stored for x in layer]
    return np.asarray(cache.spans[row, at]), int(cache.positions[row, at]), parts


def equal(held, expected):
    np.testing.assert_array_equal(held[0], expected[0])
    assert held[1] == expected[1]
    for x, y in zip(held[2], expected[2], strict=True):
        np.testing.assert_array_equal(x, y)


def check(cache, twin):
    np.testing.assert_array_equal(cache.length, [len(row) for row in twin.rows])
    for b, row in enumerate(twin.rows):
        for at, expected in enumerate(row):
            equal(slot(cache, b, at), expected)
        np.testing.assert_array_equal(
            cache.spans[b, len(row) :],
            np.broadcast_to(visibility.EMPTY, (cache.capacity - len(row), 2)),
        )


def test_a_fresh_cache_is_empty():
    cache = empty()
    assert cache.capacity == S
    check(cache, Twin())
    query_spans = visibility.causal(jnp.zeros((B, 1), jnp.int32)).query_spans
    assert not visibility.dense(query_spans, cache.spans).any()


def test_commits_gather_ragged_paths():
    cache, twin = empty(), Twin()
    paths = [
        ([[0, 2, 4], [0, 1, 3], [3, 3, 3]], [3, 1, 0]),
        ([[4, 0, 0], [0, 4, 2], [2, 1, 0]], [1, 3, 2]),
        ([[1, 2, 3], [0, 0, 0], [4, 3, 2]], [0, 0, 3]),
    ]
    for seed, (index, count) in enumerate(paths):
        new, key_spans = entries(5, seed), spans(3, seed)
        index, count = jnp.asarray(index), jnp.asarray(count)
        cache = commit(cache, new, index, count, key_spans)
        twin.commit(new, np.asarray(index), np.asarray(count), np.asarray(key_spans))
        check(cache, twin)


def test_a_row_without_room_keeps_what_it_has():
    cache, twin = empty(), Twin()
    wide = jnp.broadcast_to(jnp.arange(10), (B, 10)), jnp.asarray([10, 9, 2])
    narrow = jnp.broadcast_to(jnp.arange(3), (B, 3)), jnp.asarray([3, 2, 3])
    for seed, (index, count) in enumerate([wide, narrow]):
        new, key_spans = entries(10, seed), spans(index.shape[1], seed)
        cache = commit(cache, new, index, count, key_spans)
        twin.commit(new, np.asarray(index), np.asarray(count), np.asarray(key_spans))
        check(cache, twin)
    np.testing.assert_array_equal(cache.length, [10, 11, 5])  # 10 + 3 > 12: the first is full


def test_the_last_slot_can_be_filled():
    cache = empty(capacity=4)
    index = jnp.broadcast_to(jnp.arange(4), (B, 4))
    cache = commit(cache, entries(4), index, jnp.full((B,), 4), spans(4))
    np.testing.assert_array_equal(cache.length, [4] * B)
    np.testing.assert_array_equal(cache.spans, spans(4))


def test_write_overwrites_chosen_slots():
    cache = empty()
    index = jnp.broadcast_to(jnp.arange(6), (B, 6))
    cache = commit(cache, entries(6), index, jnp.asarray([6, 4, 0]), spans(6))
    new, key_spans = entries(3, seed=7), spans(3, seed=7)
    slots = np.array([[5, -1, 0], [S, 2, -3], [-1, S + 4, 99]])  # outside of [0, S) is skipped
    after = jax.jit(KVCache.write)(cache, new, jnp.asarray(slots), key_spans)
    np.testing.assert_array_equal(after.length, cache.length)
    for b in range(B):
        for at in range(S):
            written = np.flatnonzero(slots[b] == at)
            if written.size:
                equal(slot(after, b, at), token(new, b, written[0], key_spans[b, written[0]]))
            else:
                equal(slot(after, b, at), slot(cache, b, at))


def test_entries_take_the_type_of_the_cache():
    cache = KVCache.create(
        layers=LAYERS, batch=B, capacity=S, heads=H, head_dim=D, dtype=jnp.bfloat16
    )
    index = jnp.zeros((B, 1), jnp.int32)
    after = commit(cache, entries(1), index, jnp.ones((B,), jnp.int32), spans(1))
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, cache)


def full_size_work(function, batch, capacity):
    """Instructions of the compiled, donated commit that make a whole `[B, H, S, D]` array, and the aliases."""
    cache, width = empty(batch, capacity), 3
    index, count = jnp.zeros((batch, width), jnp.int32), jnp.ones((batch,), jnp.int32)
    lowered = jax.jit(function, donate_argnums=0).lower(
        cache, entries(5, batch=batch), index, count, spans(width, batch=batch)
    )
    text = lowered.compile().as_text()
    whole = rf"= f32\[{batch},{H},{capacity},{D}\]\S* ([\w-]+)\("
    return set(re.findall(whole, text)), text.split("\n", 1)[0].count("may-alias")


ALLOWED = {"parameter", "scatter", "dynamic-update-slice", "fusion", "bitcast", "get-tuple-element"}


@pytest.mark.parametrize("batch", [1, 3])
def test_a_commit_touches_only_the_slots_that_it_writes(batch):
    work, aliases = full_size_work(KVCache.commit, batch, 512)
    assert work <= ALLOWED, work
    assert aliases == len(jax.tree.leaves(empty()))


def test_the_cost_check_sees_a_commit_that_rewrites_the_cache():
    def naive(cache, new, index, count, key_spans):
        places = jnp.arange(cache.capacity) - cache.length[:, None]
        inside = ((places >= 0) & (places < count[:, None]))[:, None, :, None]
        at = jnp.clip(places, 0, index.shape[1] - 1)
        at = jnp.take_along_axis(index, at, axis=1)[:, None, :, None]
        put = lambda old, x: jnp.where(inside, jnp.take_along_axis(x, at, axis=2), old)
        layers = tuple(
            LayerEntries(put(old.keys, x.keys), put(old.values, x.values))
            for old, x in zip(cache.stored, new.layers, strict=True)
        )
        return KVCache(layers, cache.spans, cache.positions, cache.length + count)

    assert not full_size_work(naive, 3, 512)[0] <= ALLOWED
