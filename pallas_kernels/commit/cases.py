"""Named shapes of commits and writes, for tests and benchmarks."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """A commit of keys and values, or a write.

    Attributes:
      name: what it stands for.
      batch, heads, slots, width: of the cache, `[B, H, S, D]`.
      tokens: T, new ones.
      places: A, of the path; T for a write.
      dtype: of keys and values.
    """

    name: str
    batch: int
    heads: int
    slots: int
    width: int
    tokens: int
    places: int
    dtype: str = "float32"

    def shapes(self) -> tuple[Any, ...]:
        """Shapes of the arguments of `commit`."""
        whole = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
        path = whole(self.batch, self.places), whole(self.batch), whole(self.batch)
        return *self._array_shapes(), *path

    def write_shapes(self) -> tuple[Any, ...]:
        """Shapes of the arguments of `write`."""
        slots = jax.ShapeDtypeStruct((self.batch, self.tokens), jnp.int32)
        return *self._array_shapes(), slots

    def _array_shapes(self) -> tuple[Any, Any]:
        new = lambda length: (
            jax.ShapeDtypeStruct((self.batch, self.heads, length, self.width), self.dtype),
        )
        return 2 * new(self.slots), 2 * new(self.tokens)

    def path(self, seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Random index, start and count: rows of all lengths that leave room, and of all counts, A and 0 among them."""
        rng = np.random.default_rng(seed)
        whole = lambda high, *shape: jnp.asarray(rng.integers(0, high, shape, np.int32))
        index = whole(self.tokens, self.batch, self.places)
        start = whole(self.slots - self.places + 1, self.batch)
        count = self.places - np.arange(self.batch, dtype=np.int32) % (self.places + 1)
        return index, start, jnp.asarray(count)

    def targets(self, seed: int = 0) -> jax.Array:
        """Random slots to write to, as a canvas decoder does: most of a row lie together, in any order, and some tokens
        are skipped; the whole of the last row is, if there are several."""
        rng = np.random.default_rng(seed)
        found = np.full((self.batch, self.tokens), -1, np.int32)
        for row in found[: max(1, self.batch - 1)]:
            start = int(rng.integers(max(1, self.slots - self.tokens)))
            near = start + np.arange(min(self.tokens, self.slots - start))
            far = rng.permutation(np.setdiff1d(np.arange(self.slots), near))[: self.tokens // 8]
            slots = rng.permutation(np.concatenate([near[: self.tokens - len(far)], far]))
            row[: len(slots)] = slots
            row[rng.random(self.tokens) < 1 / 8] = self.slots
        return jnp.asarray(found)

    def arguments(self, seed: int = 0) -> tuple[Any, ...]:
        """Random arguments of `commit`."""
        return *self._arrays(seed), *self.path(seed)

    def write_arguments(self, seed: int = 0) -> tuple[Any, ...]:
        """Random arguments of `write`."""
        return *self._arrays(seed), self.targets(seed)

    def _arrays(self, seed: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(seed)

        def draw(length):
            shape = (self.batch, self.heads, length, self.width)
            if jnp.issubdtype(self.dtype, jnp.integer):
                return jnp.asarray(rng.integers(-128, 128, shape, self.dtype))
            return jnp.asarray(rng.standard_normal(shape, np.float32).astype(self.dtype))

        cache = draw(self.slots), draw(self.slots)
        return cache, (draw(self.tokens), draw(self.tokens))


SMALL = (
    Case("one token", 3, 2, 24, 8, 1, 1),
    Case("path across windows", 4, 3, 32, 12, 7, 5),
    Case("path of several windows", 5, 2, 40, 8, 12, 18),
    Case("cache of less than a window", 3, 2, 5, 8, 4, 3),
    Case("bfloat16", 5, 2, 40, 8, 9, 4, "bfloat16"),
    Case("float8", 4, 2, 64, 8, 9, 4, "float8_e4m3fn"),
    Case("int8", 4, 2, 64, 8, 9, 4, "int8"),
)
"""Small shapes: several windows, and sizes that do not divide them."""


REAL = (
    Case("plain decoding", 16, 8, 8192, 128, 1, 1, "bfloat16"),
    Case("tree of 64 tokens", 8, 8, 8192, 128, 64, 8, "bfloat16"),
    Case("block of 32 tokens", 8, 8, 8192, 128, 32, 32, "bfloat16"),
    Case("tree of 16 tokens in float32", 1, 16, 4096, 256, 16, 5),
    Case("narrow heads", 8, 2, 2048, 64, 64, 8, "bfloat16"),
    Case("keys in 8 bits", 8, 8, 8192, 128, 64, 8, "float8_e4m3fn"),
)
"""A layer of models of 8 billion parameters and less, as decoders commit to it."""


SMALL_WRITES = (
    Case("a token", 3, 2, 24, 8, 1, 1),
    Case("two blocks", 4, 3, 64, 12, 16, 16),
    Case("most of a cache", 3, 2, 40, 8, 30, 30),
    Case("cache of less than a window", 3, 2, 5, 8, 4, 4),
    Case("more tokens than slots", 2, 1, 16, 8, 18, 18),
    Case("bfloat16", 4, 2, 48, 8, 13, 13, "bfloat16"),
    Case("float8", 4, 2, 96, 8, 13, 13, "float8_e4m3fn"),
)
"""Small shapes of writes: several windows, and sizes that do not divide them."""


REAL_WRITES = (
    Case("two blocks of 32", 8, 8, 8192, 128, 64, 64, "bfloat16"),
    Case("two blocks of 64 in float32", 4, 8, 8264, 128, 128, 128),
    Case("512 tokens", 16, 8, 4096, 128, 512, 512, "bfloat16"),
    Case("narrow heads in 8 bits", 8, 2, 2048, 64, 64, 64, "float8_e4m3fn"),
)
"""A layer of models of 8 billion parameters and less, as canvas decoders write to it."""
