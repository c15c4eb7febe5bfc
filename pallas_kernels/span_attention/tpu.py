"""Span attention on a TPU: online softmax over the blocks of keys that the queries can see.

The grid is (rows, blocks of key-value heads, blocks of queries, visits). A visit reads one block of keys of one part.
Prefetched lists name it: the next block is under way while this one is worked on, and blocks that nobody sees are never
fetched; steps past the end of a list repeat its last block, which costs no fetch. The queries of a whole group of heads
form one matrix.

Legend: B rows, K key-value heads, G query heads a key-value head, T queries, D head width, J blocks of keys.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels.span_attention.blocks import marks, visits
from pallas_kernels.span_attention.parts import Keys
from pallas_kernels.span_attention.tpu_blocks import LANES, Blocks, sublanes


def unsupported(
    queries: jax.Array, parts: tuple[Keys, ...], shared_queries: jax.Array | None = None
) -> str | None:
    """Why the kernel cannot serve these arrays; None if it can."""
    width, types = queries.shape[-1], {queries.dtype, *(part.keys.dtype for part in parts)}
    odd = sorted(str(x) for x in types - {jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)})
    if odd:
        return f"span attention on a TPU takes float32 and bfloat16, got {', '.join(odd)}"
    if width > 512:
        return f"span attention on a TPU takes heads of at most 512, got {width}"
    if shared_queries is not None and shared_queries.shape[3] > 1024:
        return f"span attention on a TPU takes 1024 shared columns at most, got {shared_queries.shape[3]}"
    return None


def span_attention(
    queries: jax.Array,
    query_spans: jax.Array,
    positions: jax.Array | None,
    parts: tuple[Keys, ...],
    shared_queries: jax.Array | None = None,
    *,
    window: int | None,
    scale: float,
    blocks: Blocks | None = None,
) -> tuple[jax.Array, jax.Array]:
    """See `pallas_kernels.span_attention.api`; `blocks` overrides the sizes."""
    length = queries.shape[2]
    blocks = Blocks.of(queries, parts, shared_queries) if blocks is None else blocks
    call = plan(
        queries,
        query_spans,
        positions,
        parts,
        shared_queries,
        window=window,
        scale=scale,
        blocks=blocks,
    )
    out, log_sum = pl.pallas_call(
        call.kernel,
        grid_spec=call.grid_spec,
        out_shape=call.out_shape,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "parallel", "arbitrary")
        ),
        cost_estimate=call.cost,
        name="span_attention",
    )(*call.prefetched, *call.operands)
    batch, kv_heads, group, padded, width = out.shape
    out = out.reshape(batch, kv_heads * group, padded, width)[:, :, :length]
    # [B, K, I, 1, G bq] -> [B, H, T]
    log_sum = log_sum.reshape(batch, kv_heads, -1, group, blocks.queries)
    log_sum = log_sum.swapaxes(2, 3).reshape(batch, kv_heads * group, -1)[:, :, :length]
    return out, log_sum


@dataclasses.dataclass(frozen=True)
class Plan:
    """A call before it is made: what a test of its traffic needs to see.

    Attributes:
      kernel: the body.
      grid_spec: grid, blocks and index maps.
      out_shape: of the outputs.
      prefetched: the lists of visits.
      operands: queries, their marks, and the arrays of each part.
      cost: for the compiler's scheduler.
    """

    kernel: Callable[..., None]
    grid_spec: pltpu.PrefetchScalarGridSpec
    out_shape: tuple[jax.ShapeDtypeStruct, ...]
    prefetched: tuple[jax.Array, ...]
    operands: tuple[jax.Array, ...]
    cost: pl.CostEstimate


def plan(
    queries: jax.Array,
    query_spans: jax.Array,
    positions: jax.Array | None,
    parts: tuple[Keys, ...],
    shared_queries: jax.Array | None = None,
    *,
    window: int | None,
    scale: float,
    blocks: Blocks,
) -> Plan:
    """The grid and the index maps of a call."""
    batch, heads, length, width = queries.shape
    kv_heads = parts[0].keys.shape[1]
    group, size, taken = heads // kv_heads, blocks.queries, blocks.heads
    more = -length % sublanes(queries.dtype)
    wider = [] if shared_queries is None else [shared_queries]
    columns = (
        [query_spans]
        if window is None or positions is None
        else [query_spans, positions[..., None]]
    )
    asked = jnp.concatenate(columns, axis=-1)
    if more:
        asked = jnp.pad(asked, ((0, 0), (0, more), (0, 0)))
    padded = length + more

    def by_group(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, 0), (0, more), (0, 0))) if more else x
        return x.reshape(batch, kv_heads, group, padded, x.shape[-1])

    queries, *wider = (by_group(x) for x in (queries, *wider))
    query_blocks = pl.cdiv(padded, size)
    counts = tuple(pl.cdiv(p.keys.shape[2], k) for p, k in zip(parts, blocks.keys, strict=True))
    starts = tuple(sum(counts[:number]) for number in range(len(counts)))
    lists = [
        visits(query_spans, positions, p, size, k, window)
        for p, k in zip(parts, blocks.keys, strict=True)
    ]
    biased = [part.bias is not None for part in parts]

    def block_of(number: int):
        """The block of keys that a step of the grid reads of a part."""

        def at(b, k, i, j, *refs):
            order = refs[2 * number]
            local = jnp.clip(j - starts[number], 0, counts[number] - 1)
            return order[(b * query_blocks + i) * counts[number] + local]

        return at

    operands: list[jax.Array] = [asked, queries, *wider]
    in_specs = [pl.BlockSpec((1, size, asked.shape[-1]), lambda b, k, i, j, *_: (b, i, 0))]
    in_specs += [
        pl.BlockSpec((1, taken, group, size, x.shape[-1]), lambda b, k, i, j, *_: (b, k, 0, i, 0))
        for x in operands[1:]
    ]
    for number, (part, held) in enumerate(zip(parts, blocks.keys, strict=True)):
        at = block_of(number)
        by_head = lambda b, k, i, j, *refs, at=at: (b, k, at(b, k, i, j, *refs), 0)
        by_row = lambda b, k, i, j, *refs, at=at: (b, 0, at(b, k, i, j, *refs))
        spans = marks(part, held, window)
        operands += [part.keys, part.values, spans]
        in_specs += [pl.BlockSpec((1, taken, held, width), by_head)] * 2
        in_specs += [pl.BlockSpec((1, spans.shape[1], held), by_row)]
        if part.bias is not None:
            fill = counts[number] * held - part.bias.shape[1]
            operands.append(jnp.pad(part.bias, ((0, 0), (0, fill)))[:, None])
            in_specs.append(pl.BlockSpec((1, 1, held), by_row))
        if part.shared_keys is not None:
            alike = lambda b, k, i, j, *refs, at=at: (b, at(b, k, i, j, *refs), 0)
            operands.append(part.shared_keys)
            in_specs.append(pl.BlockSpec((1, held, part.shared_keys.shape[2]), alike))

    rows = group * size
    grid_spec = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=2 * len(parts),
        grid=(batch, kv_heads // taken, query_blocks, sum(counts)),
        in_specs=in_specs,
        out_specs=(
            pl.BlockSpec((1, taken, group, size, width), lambda b, k, i, j, *_: (b, k, 0, i, 0)),
            pl.BlockSpec((1, taken, 1, 1, rows), lambda b, k, i, j, *_: (b, k, i, 0, 0)),
        ),
        scratch_shapes=[
            pltpu.VMEM((taken, rows, LANES), jnp.float32),
            pltpu.VMEM((taken, rows, LANES), jnp.float32),
            pltpu.VMEM((taken, rows, width), jnp.float32),
        ],
    )
    kernel = functools.partial(
        _kernel,
        starts=starts,
        counts=counts,
        biased=biased,
        shared=bool(wider),
        length=length,
        window=window,
        scale=scale,
    )
    out_shape = (
        jax.ShapeDtypeStruct(queries.shape, queries.dtype),
        jax.ShapeDtypeStruct((batch, kv_heads, query_blocks, 1, rows), jnp.float32),
    )
    prefetched = tuple(x.reshape(-1) for visit in lists for x in visit)
    return Plan(
        kernel,
        grid_spec,
        out_shape,
        prefetched,
        tuple(operands),
        _cost([queries, *wider], parts, out_shape),
    )


def _kernel(
    *refs: Any,
    starts: tuple[int, ...],
    counts: tuple[int, ...],
    biased: list[bool],
    shared: bool,
    length: int,
    window: int | None,
    scale: float,
) -> None:
    """One visit."""
    parts = len(counts)
    lists, refs = refs[: 2 * parts], refs[2 * parts :]
    asked_ref, queries_ref, *refs = refs  # type: ignore[assignment]
    wider_ref, refs = (refs[0], refs[1:]) if shared else (None, refs)
    held = []
    for has_bias in biased:
        more = 3 + has_bias
        held.append((*refs[:3], refs[3] if has_bias else None, refs[more] if shared else None))
        refs = refs[more + shared :]
    out_ref, log_sum_ref, top_ref, total_ref, mixed_ref = refs
    row, block, visit = pl.program_id(0), pl.program_id(2), pl.program_id(3)
    at = row * pl.num_programs(2) + block
    heads, group, size, width = queries_ref.shape[1:]

    @pl.when(visit == 0)
    def _begin():
        top_ref[...] = jnp.full_like(top_ref, -jnp.inf)
        total_ref[...] = jnp.zeros_like(total_ref)
        mixed_ref[...] = jnp.zeros_like(mixed_ref)

    def attend(keys_ref, values_ref, spans_ref, bias_ref, shared_ref):
        asked, spans = asked_ref[0], spans_ref[0]
        seen = (spans[0:1] <= asked[:, 0:1]) & (asked[:, 1:2] <= spans[1:2])
        if window is not None:
            seen &= jnp.abs(asked[:, 2:3] - spans[2:3]) < window
        # The last block of queries may reach past the end, where spans are arbitrary.
        seen &= jax.lax.broadcasted_iota(jnp.int32, (size, 1), 0) < length - block * size
        ones = jnp.ones((8, width), jnp.float32)
        for head in range(heads):
            queries = queries_ref[0, head].reshape(group * size, width)
            keys = keys_ref[0, head].astype(queries.dtype)
            values = values_ref[0, head].astype(jnp.float32)
            # What a query does not see may hold anything, and 0 times that need not be 0: values that are not finite
            # are taken out, and spoil the scores of the queries that see them instead.
            spoiled = values * 0.0  # NaN where a value is not finite
            values = jnp.where(spoiled == 0, values, 0.0)
            spoiled = _dot(ones, spoiled, 1)[:1]
            scores = _dot(queries, keys, 1)
            if wider_ref is not None:
                wider = wider_ref[0, head].reshape(group * size, -1)
                scores += _dot(wider, shared_ref[0], 1)
            scores = scores * scale
            if bias_ref is not None:
                scores += bias_ref[0]
            scores = scores.reshape(group, size, -1) + spoiled[None]
            scores = jnp.where(seen[None], scores, -jnp.inf)
            scores = scores.reshape(group * size, -1)
            before = top_ref[head, :, :1]
            top = jnp.maximum(before, jnp.max(scores, axis=1, keepdims=True))
            shift = jnp.where(top == -jnp.inf, 0.0, top)
            weights = jnp.exp(scores - shift)
            fade = jnp.exp(before - shift)
            total = total_ref[head, :, :1] * fade + jnp.sum(weights, axis=1, keepdims=True)
            added = _dot(weights.astype(queries.dtype), values.astype(queries.dtype), 0)
            mixed_ref[head] = mixed_ref[head] * fade + added
            top_ref[head] = jnp.broadcast_to(top, top_ref.shape[1:])
            total_ref[head] = jnp.broadcast_to(total, total_ref.shape[1:])

    for number, part in enumerate(held):
        local = visit - starts[number]
        count = lists[2 * number + 1][at]
        pl.when((local >= 0) & (local < count))(functools.partial(attend, *part))

    @pl.when(visit == sum(counts) - 1)
    def _end():
        for head in range(heads):
            total, top = total_ref[head], top_ref[head]
            some = total != 0
            safe = jnp.where(some, total, 1.0)
            out = mixed_ref[head] / safe[:, :1]
            out_ref[0, head] = out.reshape(group, size, width).astype(out_ref.dtype)
            log_sum = jnp.where(some, jnp.log(safe) + top, -jnp.inf)
            log_sum_ref[0, head, 0] = log_sum.T[:1]


def _dot(first: jax.Array, second: jax.Array, contracted: int) -> jax.Array:
    """Matrix product in float32 along the last axis of the first; float32 factors are not cut to bfloat16."""
    exact = first.dtype == jnp.float32
    return jax.lax.dot_general(
        first,
        second,
        (((1,), (contracted,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST if exact else None,
        preferred_element_type=jnp.float32,
    )


def _cost(
    queries: list[jax.Array], parts: tuple[Keys, ...], outputs: tuple[jax.ShapeDtypeStruct, ...]
) -> pl.CostEstimate:
    """As if every query saw every key, each read once."""
    pairs = math.prod(queries[0].shape[:-1]) * sum(part.keys.shape[2] for part in parts)
    arrays: list[Any] = [*queries, *outputs]
    arrays += [x for part in parts for x in (part.keys, part.values, part.shared_keys)]
    arrays = [x for x in arrays if x is not None]
    return pl.CostEstimate(
        flops=2 * pairs * (queries[0].shape[-1] + sum(x.shape[-1] for x in queries)),
        transcendentals=pairs,
        bytes_accessed=sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays),
    )
