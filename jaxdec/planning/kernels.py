"""What the kernels of a compiled step move: their own grids and index maps, at the length of text asked for."""

import functools
import math
from itertools import zip_longest
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.planning.hlo import Array
from jaxdec.planning.program import Kernel
from pallas_kernels.span_attention import Keys
from pallas_kernels.span_attention.blocks import FAR, NOBODY
from pallas_kernels.span_attention.tpu import plan
from pallas_kernels.span_attention.tpu_blocks import Blocks
from pallas_kernels.traffic import moved_bytes

_TYPES = {"bf16": "bfloat16", "f32": "float32", "s8": "int8"}


def at_context(context: int) -> Kernel:
    """Bytes and flops of a kernel, where each row holds `context` tokens that every new one sees.

    Attention is counted from its index maps; commits and writes by the windows of slots that they change; all others as
    if they read and wrote every array whole. What lies in the fast memory is free: its way there was a copy of its own.
    """

    @functools.cache
    def count(name: str, inputs: tuple[Array, ...], outputs: tuple[Array, ...]) -> tuple[int, int]:
        if name == "span_attention":
            return _attention(inputs, outputs, context)
        if name in ("commit", "write"):
            return _stored(inputs, outputs), 0
        return sum(array.main_bytes for array in (*inputs, *outputs)), 0

    return count


def _attention(
    inputs: tuple[Array, ...], outputs: tuple[Array, ...], context: int
) -> tuple[int, int]:
    """Of span attention: operands as its plan lists them, lists of visits first."""
    lists = next(n for n, array in enumerate(inputs) if len(array.shape) > 1)
    queries = inputs[lists + 1]
    batch, kv_heads, group, length, width = queries.shape
    shared = len(inputs[lists + 2].shape) == 5
    held = [array for array in inputs[lists + 2 + shared :] if len(array.shape) == 4]
    shape: Any = jax.ShapeDtypeStruct
    parts = []
    for number, keys in enumerate(held[::2]):
        slots = np.arange(keys.shape[2])
        first = number == 0 and len(held) > 2
        # The tokens of a cache are seen by all that come after; slots behind them by nobody.
        starts = np.where(slots < context, slots, NOBODY[0]) if first else 0 * slots + context
        stops = np.where(slots < context, FAR, NOBODY[1]) if first else 0 * slots + FAR
        spans = np.broadcast_to(np.stack([starts, stops], -1), (batch, len(slots), 2))
        array = shape(keys.shape, _TYPES[keys.kind])
        parts.append(Keys(array, array, jnp.asarray(spans, jnp.int32), None))
    asked = jnp.full((batch, length, 2), context, jnp.int32)
    heads = shape((batch, kv_heads * group, length, width), _TYPES[queries.kind])
    call = plan(
        jnp.zeros(heads.shape, heads.dtype),
        asked,
        None,
        tuple(parts),
        window=None,
        scale=1.0,
        blocks=Blocks.of(heads, tuple(parts)),
    )
    specs = [*call.grid_spec.in_specs, *call.grid_spec.out_specs]
    moved = moved_bytes(
        tuple(map(int, call.grid_spec.grid)),
        specs,
        [*call.operands, *call.out_shape],
        call.prefetched,
    )
    fast = [array.fast for array in (*inputs[len(inputs) - len(call.operands) :], *outputs)]
    moved = [0 if free else n for n, free in zip_longest(moved, fast, fillvalue=False)]
    seen = sum(
        min(context, keys.shape[2]) if number == 0 and len(held) > 2 else keys.shape[2]
        for number, keys in enumerate(held[::2])
    )
    return sum(moved), 4 * math.prod(queries.shape) * seen


def _stored(inputs: tuple[Array, ...], outputs: tuple[Array, ...]) -> int:
    """Of a commit or a write: its windows are read and written, and its tokens are read."""
    caches = outputs
    tokens = [array for array in inputs if len(array.shape) == 4][len(caches) :]
    batch, _, slots, _ = caches[0].shape
    # Lists of the places of tokens, `[B A]`, stand among the scalars.
    places = max(array.numbers for array in inputs if len(array.shape) == 1) // batch
    size = min(slots, 32 if any(array.kind == "s8" for array in caches) else 8)
    windows = min(-(-slots // size), -(-places // size) + 1)
    moved = sum(2 * array.main_bytes // slots * size * windows for array in caches)
    return moved + sum(array.main_bytes for array in tokens)
