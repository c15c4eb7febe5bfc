"""Span attention on a GPU: online softmax over the blocks of keys that the queries can see, split over programs.

One program takes the queries of some tokens and a whole query group, and a share of the blocks of keys that they can
see; the shares are merged afterwards. A tree has too few queries to fill a GPU without the split. Shares are equal
parts of the list of visible blocks, so that ragged rows leave no program idle.

Legend: B rows, K key-value heads, G query heads a key-value head, T queries, D head width, S keys of a part.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from pallas_kernels.span_attention.blocks import FAR, marks, visits
from pallas_kernels.span_attention.parts import Keys, merge

PROGRAMS = 256
"""Wanted at least: two for each of the 132 multiprocessors of a H100 or H200."""


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Sizes of a call.

    Attributes:
      queries: tokens in a block; with their query group, a power of two of at least 16 rows.
      keys: in a block, a power of two.
      splits: programs that share the keys of a block of queries.
    """

    queries: int
    keys: int
    splits: int

    @classmethod
    def of(cls, queries: jax.Array, parts: tuple[Keys, ...]) -> "Blocks":
        """64 rows against 64 keys keep the tensor cores busy and fit in registers; wide heads take fewer keys."""
        batch, heads, length, width = queries.shape
        kv_heads = parts[0].keys.shape[1]
        group = pl.next_power_of_2(heads // kv_heads)
        size = min(max(64, group), max(16, pl.next_power_of_2(length * group)))
        tokens = size // group
        keys = 64 if width <= 128 else 32
        programs = batch * kv_heads * pl.cdiv(length, tokens)
        longest = max(pl.cdiv(part.keys.shape[2], keys) for part in parts)
        # A share of fewer than 4 blocks costs more to merge than it gains.
        splits = max(1, min(pl.cdiv(PROGRAMS, programs), longest // 4))
        return cls(tokens, keys, splits)


def unsupported(
    queries: jax.Array, parts: tuple[Keys, ...], shared_queries: jax.Array | None = None
) -> str | None:
    """Why the kernel cannot serve these arrays; None if it can."""
    if shared_queries is not None:
        return f"span attention on a GPU takes no shared columns, got {shared_queries.shape[3]}"
    width, types = queries.shape[-1], {queries.dtype, *(part.keys.dtype for part in parts)}
    if width not in (16, 32, 64, 128, 256):
        return f"span attention on a GPU takes heads of a power of two from 16 to 256, got {width}"
    known = {jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16)}
    if types - known:
        odd = ", ".join(sorted(str(x) for x in types - known))
        return f"span attention on a GPU takes float32, bfloat16 and float16, got {odd}"
    return None


def span_attention(
    queries: jax.Array,
    query_spans: jax.Array,
    positions: jax.Array | None,
    parts: tuple[Keys, ...],
    shared_queries: None = None,
    *,
    window: int | None,
    scale: float,
    blocks: Blocks | None = None,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """See `pallas_kernels.span_attention.api`; `blocks` overrides the sizes, `interpret` runs on any device."""
    blocks = Blocks.of(queries, parts) if blocks is None else blocks
    batch, heads, length, width = queries.shape
    kv_heads = parts[0].keys.shape[1]
    group = heads // kv_heads
    wide = pl.next_power_of_2(group)
    count = pl.cdiv(length, blocks.queries)
    more = count * blocks.queries - length

    # Rows by token, then by head of the group, so that a block holds few tokens and all heads.
    grouped = queries.reshape(batch, kv_heads, group, length, width).swapaxes(2, 3)
    grouped = jnp.pad(grouped, ((0, 0), (0, 0), (0, more), (0, wide - group), (0, 0)))
    grouped = grouped.reshape(batch, kv_heads, -1, width)
    columns = [
        query_spans[..., 0],
        query_spans[..., 1],
        *([] if positions is None else [positions]),
    ]
    # Padded tokens see nothing.
    fills = (-FAR, FAR, 0)
    asked = jnp.stack(
        [jnp.pad(x, ((0, 0), (0, more)), constant_values=fills[i]) for i, x in enumerate(columns)],
        axis=1,
    )
    asked = jnp.repeat(asked, wide, axis=2)  # [B, 2 or 3, rows]

    operands: list[Any] = [grouped, asked]
    for part in parts:
        visit = visits(query_spans, positions, part, blocks.queries, blocks.keys, window)
        spans = marks(part, blocks.keys, window)
        operands += [part.keys, part.values, spans, visit.order, visit.length]
        if part.bias is not None:
            fill = spans.shape[2] - part.bias.shape[1]
            operands.append(jnp.pad(part.bias, ((0, 0), (0, fill))))
    rows = grouped.shape[2]
    out_shape = (
        jax.ShapeDtypeStruct((blocks.splits, batch, kv_heads, rows, width), jnp.float32),
        jax.ShapeDtypeStruct((blocks.splits, batch, kv_heads, rows), jnp.float32),
    )
    out, log_sum = pl.pallas_call(
        functools.partial(
            _kernel,
            biased=[part.bias is not None for part in parts],
            rows=blocks.queries * wide,
            keys=blocks.keys,
            splits=blocks.splits,
            window=window,
            scale=scale,
        ),
        grid=(batch * kv_heads, count, blocks.splits),
        out_shape=out_shape,
        in_specs=[pl.BlockSpec(memory_space=pl.ANY)] * len(operands),
        out_specs=(pl.BlockSpec(memory_space=pl.ANY),) * 2,
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        cost_estimate=pl.CostEstimate(
            flops=4 * math.prod(queries.shape) * sum(part.keys.shape[2] for part in parts),
            transcendentals=math.prod(queries.shape[:3]) * sum(p.keys.shape[2] for p in parts),
            bytes_accessed=sum(
                math.prod(x.shape) * x.dtype.itemsize for x in [*operands, *out_shape]
            ),
        ),
        interpret=interpret,
        name="span_attention",
    )(*operands)
    mixed, total = merge(list(zip(out, log_sum, strict=True)))

    def by_head(x: jax.Array) -> jax.Array:
        x = x.reshape(batch, kv_heads, -1, wide, *x.shape[3:])[:, :, :length, :group]
        return x.swapaxes(2, 3).reshape(batch, heads, length, *x.shape[4:])

    return by_head(mixed).astype(queries.dtype), by_head(total)


def _kernel(
    queries_ref: Any,
    asked_ref: Any,
    *refs: Any,
    biased: list[bool],
    rows: int,
    keys: int,
    splits: int,
    window: int | None,
    scale: float,
) -> None:
    """One block of queries against one share of its visible keys."""
    out_ref, log_sum_ref = refs[-2:]
    kv_heads, width = queries_ref.shape[1], queries_ref.shape[3]
    row, head = pl.program_id(0) // kv_heads, pl.program_id(0) % kv_heads
    block, share = pl.program_id(1), pl.program_id(2)
    own = pl.ds(block * rows, rows)
    queries = triton.load(queries_ref.at[row, head, own])
    lo, hi, *at = (
        triton.load(asked_ref.at[row, jnp.int32(i), own]) for i in range(asked_ref.shape[1])
    )

    def visit(number, carry, held):
        keys_ref, values_ref, spans_ref, order_ref, bias_ref = held
        top, total, mixed = carry
        start = triton.load(order_ref.at[row, block, number]) * keys
        there = (start + jnp.arange(keys) < keys_ref.shape[2])[:, None]
        tile = pl.ds(start, keys)
        load = lambda ref: triton.load(ref.at[row, head, tile], mask=there, other=0.0)
        marked = [
            triton.load(spans_ref.at[row, jnp.int32(i), tile]) for i in range(spans_ref.shape[1])
        ]
        seen = (marked[0][None] <= lo[:, None]) & (hi[:, None] <= marked[1][None])
        if window is not None:
            seen &= jnp.abs(at[0][:, None] - marked[2][None]) < window
        scores = _dot(queries, load(keys_ref).astype(queries.dtype).T) * scale
        if bias_ref is not None:
            scores += triton.load(bias_ref.at[row, tile])[None]
        # What a query does not see may hold anything, and 0 times that need not be 0: values that are not finite are
        # taken out, and spoil the scores of the queries that see them instead.
        values = load(values_ref).astype(jnp.float32)
        spoiled = values * 0.0  # NaN where a value is not finite
        values = jnp.where(spoiled == 0, values, 0.0).astype(queries.dtype)
        scores = jnp.where(seen, scores + jnp.sum(spoiled, axis=1)[None], -jnp.inf)
        higher = jnp.maximum(top, jnp.max(scores, axis=1))
        shift = jnp.where(higher == -jnp.inf, 0.0, higher)
        weights = jnp.exp(scores - shift[:, None])
        fade = jnp.exp(top - shift)
        total = total * fade + jnp.sum(weights, axis=1)
        mixed = mixed * fade[:, None] + _dot(weights.astype(queries.dtype), values)
        return higher, total, mixed

    carry = (
        jnp.full((rows,), -jnp.inf, jnp.float32),
        jnp.zeros((rows,), jnp.float32),
        jnp.zeros((rows, width), jnp.float32),
    )
    place = 0
    for has_bias in biased:
        keys_ref, values_ref, spans_ref, order_ref, count_ref = refs[place : place + 5]
        bias_ref = refs[place + 5] if has_bias else None
        place += 5 + has_bias
        count = triton.load(count_ref.at[row, block])
        each = (count + splits - 1) // splits
        held = (keys_ref, values_ref, spans_ref, order_ref, bias_ref)
        carry = jax.lax.fori_loop(
            share * each,
            jnp.minimum((share + 1) * each, count),
            functools.partial(visit, held=held),
            carry,
        )
    top, total, mixed = carry
    some = total != 0
    safe = jnp.where(some, total, 1.0)
    triton.store(out_ref.at[share, row, head, own], mixed / safe[:, None])
    log_sum = jnp.where(some, jnp.log(safe) + top, -jnp.inf)
    triton.store(log_sum_ref.at[share, row, head, own], log_sum)


def _dot(first: jax.Array, second: jax.Array) -> jax.Array:
    """Matrix product in float32; float32 factors are not cut to a shorter mantissa."""
    exact = first.dtype == jnp.float32
    precision = jax.lax.Precision.HIGHEST if exact else None
    return jnp.dot(first, second, precision=precision, preferred_element_type=jnp.float32)
