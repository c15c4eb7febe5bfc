"""Named shapes of commits, for tests and benchmarks."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.commit.api import commit


@dataclasses.dataclass(frozen=True)
class Case:
    """A commit of keys and values.

    Attributes:
      name: what it stands for.
      batch, heads, slots, width: of the cache, `[B, H, S, D]`.
      tokens: T, new ones.
      places: A, of the path.
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
        new = lambda length: (
            jax.ShapeDtypeStruct((self.batch, self.heads, length, self.width), self.dtype),
        )
        whole = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
        path = whole(self.batch, self.places), whole(self.batch), whole(self.batch)
        return 2 * new(self.slots), 2 * new(self.tokens), *path

    def path(self, seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Random index, start and count: rows of all lengths that leave room, and of all counts, A and 0 among them."""
        rng = np.random.default_rng(seed)
        whole = lambda high, *shape: jnp.asarray(rng.integers(0, high, shape, np.int32))
        index = whole(self.tokens, self.batch, self.places)
        start = whole(self.slots - self.places + 1, self.batch)
        count = self.places - np.arange(self.batch, dtype=np.int32) % (self.places + 1)
        return index, start, jnp.asarray(count)

    def arguments(self, seed: int = 0) -> tuple[Any, ...]:
        """Random arguments of `commit`."""
        rng = np.random.default_rng(seed)

        def draw(length):
            shape = (self.batch, self.heads, length, self.width)
            if jnp.issubdtype(self.dtype, jnp.integer):
                return jnp.asarray(rng.integers(-128, 128, shape, self.dtype))
            return jnp.asarray(rng.standard_normal(shape, np.float32).astype(self.dtype))

        cache = draw(self.slots), draw(self.slots)
        return cache, (draw(self.tokens), draw(self.tokens)), *self.path(seed)


def cases() -> tuple[Case, ...]:
    """Small shapes: several windows, and sizes that do not divide them."""
    return (
        Case("one token", 3, 2, 24, 8, 1, 1),
        Case("path across windows", 4, 3, 32, 12, 7, 5),
        Case("path of several windows", 5, 2, 40, 8, 12, 18),
        Case("cache of less than a window", 3, 2, 5, 8, 4, 3),
        Case("bfloat16", 5, 2, 40, 8, 9, 4, "bfloat16"),
        Case("float8", 4, 2, 64, 8, 9, 4, "float8_e4m3fn"),
        Case("int8", 4, 2, 64, 8, 9, 4, "int8"),
    )


def real_cases() -> tuple[Case, ...]:
    """A layer of models of 8 billion parameters and less, as decoders commit to it."""
    return (
        Case("plain decoding", 16, 8, 8192, 128, 1, 1, "bfloat16"),
        Case("tree of 64 tokens", 8, 8, 8192, 128, 64, 8, "bfloat16"),
        Case("block of 32 tokens", 8, 8, 8192, 128, 32, 32, "bfloat16"),
        Case("tree of 16 tokens in float32", 1, 16, 4096, 256, 16, 5),
        Case("narrow heads", 8, 2, 2048, 64, 64, 8, "bfloat16"),
        Case("keys in 8 bits", 8, 8, 8192, 128, 64, 8, "float8_e4m3fn"),
    )


def aot_cases() -> list[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    """What must compile for a TPU: names, functions and the shapes of their arguments, the first to be given away."""
    function = functools.partial(commit, implementation="tpu")
    return [(f"commit: {case.name}", function, case.shapes()) for case in real_cases()]
