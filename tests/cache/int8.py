"""A cache of the caller's own: keys and values in 8 bits, with a scale a token and head."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.cache import KVCache, KVEntries, LayerEntries


def rounded(x):
    """`[B, H, T, D]` as int8, and the scale `[B, H, T, 1]` of each vector."""
    scale = jnp.maximum(jnp.abs(x).max(-1, keepdims=True) / 127, 1e-30)
    return jnp.round(x / scale).astype(jnp.int8), scale


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Int8Cache:
    """Two key-value caches that are written alike: of whole numbers, and of scales."""

    numbers: KVCache
    scales: KVCache

    @property
    def length(self):
        return self.numbers.length

    @property
    def capacity(self):
        return self.numbers.capacity

    @property
    def layers(self):
        return self.numbers.layers

    def read(self, layer):
        numbers, scales = self.numbers.read(layer), self.scales.read(layer)
        return numbers._replace(
            keys=numbers.keys * scales.keys, values=numbers.values * scales.values
        )

    def _both(self, name, entries, *rest):
        pairs = [[rounded(x) for x in layer] for layer in entries.layers]
        part = lambda i: KVEntries(
            tuple(LayerEntries(*(pair[i] for pair in layer)) for layer in pairs), entries.positions
        )
        put = lambda cache, i: getattr(cache, name)(part(i), *rest)
        return Int8Cache(put(self.numbers, 0), put(self.scales, 1))

    def commit(self, entries, index, count, key_spans):
        return self._both("commit", entries, index, count, key_spans)

    def write(self, entries, slots, key_spans):
        return self._both("write", entries, slots, key_spans)

    def hide(self, slots):
        return dataclasses.replace(self, numbers=self.numbers.hide(slots))

    def renumber(self, change):
        return dataclasses.replace(self, numbers=self.numbers.renumber(change))

    def rows(self, index):
        return Int8Cache(self.numbers.rows(index), self.scales.rows(index))

    def back_to(self, length):
        return Int8Cache(self.numbers.back_to(length), self.scales.back_to(length))


def int8(cache):
    """What `generate(..., cache=int8)` makes of an empty cache."""
    make = lambda dtype, narrow: dataclasses.replace(
        cache,
        stored=jax.tree.map(
            lambda x: jnp.zeros((*x.shape[:-1], 1 if narrow else x.shape[-1]), dtype), cache.stored
        ),
    )
    return Int8Cache(make(jnp.int8, False), make(jnp.float32, True))
