"""Shapes and patterns that tests and benchmarks share."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.span_attention.api import span_attention
from pallas_kernels.span_attention.blocks import FAR, NOBODY
from pallas_kernels.span_attention.parts import Keys

Pattern = Literal["tree", "block", "canvas", "causal"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A call of span attention.

    Attributes:
      name: of the case.
      batch: B.
      heads: H.
      kv_heads: K.
      queries: T.
      slots: of the cache, S; 0 for none.
      width: D.
      pattern: of the new tokens: a draft `tree` of random shape, a diffusion `block` in which all see all, a whole
        `canvas` (the same with no cache), `causal` text.
      filled: how much of the cache is in use in each row: all, or anything from nothing on.
      dtype: of queries, keys and values.
      window: positions, or None.
      bias: whether keys have one.
    """

    name: str
    batch: int
    heads: int
    kv_heads: int
    queries: int
    slots: int
    width: int
    pattern: Pattern = "tree"
    filled: Literal["full", "ragged"] = "ragged"
    dtype: str = "float32"
    window: int | None = None
    bias: bool = False

    def arguments(self, seed: int = 0, unseen: float = np.nan) -> dict[str, Any]:
        """Random arguments of `span_attention`; slots of the cache that are not in use hold `unseen`."""
        random = np.random.default_rng(seed)
        dtype, rows = jnp.dtype(self.dtype), (self.batch, self.kv_heads)
        fill = np.full(self.batch, self.slots)
        if self.filled == "ragged" and self.slots:
            fill = random.integers(0, self.slots + 1, self.batch)
            fill[0] = 0
        query_spans, key_spans = _spans(self.pattern, fill, self.queries, random)
        places = (fill[:, None] + np.arange(self.queries)).astype(np.int32)
        normal: Any = lambda *shape: random.standard_normal(shape, np.float32)

        def keys(count, key_spans, positions, used):
            arrays: list[Any] = []
            for _ in range(2):
                array = normal(*rows, count, self.width)
                array[~np.broadcast_to(used[:, None], array.shape[:3])] = unseen
                arrays.append(jnp.asarray(array, dtype))
            bias = jnp.asarray(normal(self.batch, count)) if self.bias else None
            key_spans, positions = jnp.asarray(key_spans), jnp.asarray(positions)
            return Keys(arrays[0], arrays[1], key_spans, positions, bias)

        parts = [keys(self.queries, key_spans, places, np.ones(places.shape, bool))]
        if self.slots:
            slots = np.broadcast_to(np.arange(self.slots, dtype=np.int32), (self.batch, self.slots))
            used = slots < fill[:, None]
            spans = np.stack([slots, np.full_like(slots, FAR)], axis=-1)
            spans[~used] = NOBODY
            parts.insert(0, keys(self.slots, spans, slots, used))
        return {
            "queries": jnp.asarray(normal(self.batch, self.heads, self.queries, self.width), dtype),
            "query_spans": jnp.asarray(query_spans),
            "parts": tuple(parts),
            "positions": jnp.asarray(places),
        }

    def shapes(self) -> dict[str, Any]:
        """The shapes and types of `arguments()`."""
        struct: Any = lambda *shape, dtype="int32": jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))
        batch, count = self.batch, self.queries

        def keys(slots):
            held = struct(batch, self.kv_heads, slots, self.width, dtype=self.dtype)
            bias = struct(batch, slots, dtype="float32") if self.bias else None
            return Keys(held, held, struct(batch, slots, 2), struct(batch, slots), bias)

        return {
            "queries": struct(batch, self.heads, count, self.width, dtype=self.dtype),
            "query_spans": struct(batch, count, 2),
            "parts": tuple(keys(slots) for slots in (self.slots, count) if slots),
            "positions": struct(batch, count),
        }

    def call(self, implementation: Any = None) -> Callable[[dict[str, Any]], Any]:
        """The operation as a function of `arguments()`."""

        def function(arguments):
            return span_attention(
                arguments["queries"],
                arguments["query_spans"],
                *arguments["parts"],
                positions=arguments["positions"],
                window=self.window,
                implementation=implementation,
            )

        return function

    def least_bytes(self, arguments: dict[str, Any]) -> int:
        """Keys and values that some query sees, queries, outputs and log-sum-exps, each once."""
        query_spans, places = (np.asarray(arguments[name]) for name in ("query_spans", "positions"))
        total = 0
        for part in arguments["parts"]:
            key_spans, held = np.asarray(part.key_spans), np.asarray(part.positions)
            for row in range(self.batch):
                seen = key_spans[row, None, :, 0] <= query_spans[row, :, None, 0]
                seen &= query_spans[row, :, None, 1] <= key_spans[row, None, :, 1]
                if self.window is not None:
                    seen &= abs(places[row, :, None] - held[row]) < self.window
                total += 2 * int(seen.any(0).sum()) * self.kv_heads * self.width
        rows = self.batch * self.heads * self.queries
        return (total + 2 * rows * self.width) * jnp.dtype(self.dtype).itemsize + 4 * rows


def _spans(pattern: Pattern, fill: np.ndarray, count: int, random) -> tuple[np.ndarray, np.ndarray]:
    """Spans of new tokens behind `fill [B]` committed ones: query_spans and key_spans, int32 `[B, T, 2]`."""
    first = np.broadcast_to(fill[:, None], (len(fill), count)).copy()
    if pattern in ("block", "canvas"):
        stop = np.full_like(first, FAR)
    elif pattern == "causal":
        first += np.arange(count)
        stop = np.full_like(first, FAR)
    else:
        shapes = [_preorder(count, random) for _ in fill]
        first += np.array([number for number, _ in shapes])
        stop = first + np.array([size for _, size in shapes]) - 1
    pair = lambda a, b: np.stack([a, b], axis=-1).astype(np.int32)
    return pair(first, first), pair(first, stop)


def _preorder(count: int, random) -> tuple[np.ndarray, np.ndarray]:
    """Pre-order numbers and subtree sizes of a random tree."""
    parents = [-1, *(int(random.integers(max(0, node - 4), node)) for node in range(1, count))]
    numbers, sizes = np.zeros(count, int), np.ones(count, int)
    for node in range(count - 1, 0, -1):
        sizes[parents[node]] += sizes[node]
    taken = np.ones(count, int)  # the node itself comes first
    for node in range(1, count):
        numbers[node] = numbers[parents[node]] + taken[parents[node]]
        taken[parents[node]] += sizes[node]
    return numbers, sizes


SMALL = (
    Case("tree", 3, 4, 2, 11, 300, 16),
    Case("tree of bfloat16", 3, 8, 2, 9, 300, 32, dtype="bfloat16"),
    Case("window and bias", 3, 4, 2, 11, 300, 16, window=40, bias=True),
    Case("one token", 3, 4, 4, 1, 200, 16, "causal"),
    Case("diffusion block", 2, 6, 2, 16, 140, 16, "block"),
    Case("canvas", 2, 4, 1, 150, 0, 16, "canvas"),
    Case("causal text", 2, 2, 2, 150, 0, 16, "causal"),
)
"""Small ones, of several blocks in each direction, whose sizes no block divides."""


_HEADS: dict[str, Any] = {"heads": 32, "kv_heads": 8, "width": 128, "dtype": "bfloat16"}
REAL = (
    Case("tree of 64", 8, queries=64, slots=8192, filled="full", **_HEADS),
    Case("tree of 64, ragged", 8, queries=64, slots=8192, **_HEADS),
    Case("tree of 16", 8, queries=16, slots=8192, filled="full", **_HEADS),
    Case("plain decoding", 8, queries=1, slots=8192, pattern="causal", filled="full", **_HEADS),
    Case("diffusion block of 32", 8, queries=32, slots=4096, pattern="block", **_HEADS),
    Case("tree in a window", 8, queries=64, slots=8192, window=1024, filled="full", **_HEADS),
    Case("canvas of 2048", 2, queries=2048, slots=0, pattern="canvas", **_HEADS),
)
"""Heads of an 8B-class model."""
