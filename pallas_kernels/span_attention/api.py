"""Span attention: the public function."""

import functools
from typing import Any

import jax

from pallas_kernels.dispatch import Implementation, dispatch
from pallas_kernels.span_attention import gpu, reference, tpu
from pallas_kernels.span_attention.parts import Keys
from pallas_kernels.span_attention.split import Asked, Split, attend, sharing


def span_attention(
    queries: jax.Array,
    query_spans: jax.Array,
    *parts: Keys | Split,
    positions: jax.Array | None = None,
    shared_queries: jax.Array | None = None,
    window: int | None = None,
    scale: float | None = None,
    implementation: Implementation | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Attention with one softmax over several sets of keys, each seen by the queries that its span contains.

        o_t = sum_s w_ts v_s,   w_ts = exp(l_ts - L_t),   L_t = log sum_s exp l_ts,
        l_ts = scale (q_t k_s + e_t f_s) + bias_s   where start_s <= lo_t, hi_t <= stop_s, |pos_t - pos_s| < window,

    and -inf elsewhere; e_t are `shared_queries` and f_s the parts' `shared_keys`, if there are any. A query that sees
    nothing has output 0 and L = -inf. Scores, softmax and L are float32.
    The kernels skip blocks of keys that no query of a block sees, read each other block once for all queries and the
    whole query group of its head. A result never depends on what an unseen key or value holds, which may be NaN; the
    output of a query that sees one that is not finite is not finite either.

    Legend: B rows, T queries, H query heads, K key-value heads, S keys of a part, D head width, E shared columns.

    Args:
      queries: `[B, H, T, D]`, H a multiple of K.
      query_spans: int32 `[B, T, 2]`, the span `(lo, hi)` that each query sees with.
      *parts: disjoint sets of keys: the cache and the new tokens, say; in the type of the queries or another. Those
        that are `Split` over devices are attended to by all of them together; others are the same on each device, but
        within `tokens_split`.
      positions: int32 `[B, T]`, needed with `window`.
      shared_queries: float32 `[B, H, T, E]`, for parts that all have `shared_keys`: columns of keys that are the same
        for all heads, such as those of relative positions, and so are neither copied nor read a head.
      window: if set, keys that many positions away or more are not seen, whatever the spans say.
      scale: of the scores; `D^-0.5` if not given.
      implementation: see `pallas_kernels.use`.

    Returns:
      Outputs `[B, H, T, D]` in the queries' type, and L, float32 `[B, H, T]`.

    Raises:
      ValueError: for shapes that do not fit together, a window without positions, an implementation that does not
        exist or cannot serve these arrays, or a part that is split over what is no axis of an enclosing shard_map.

    Differentiable where no part is split; the backward pass is that of the reference.
    """
    here = tuple(part.keys if isinstance(part, Split) else part for part in parts)
    _check(queries, query_spans, here, positions, window)
    _check_shared(queries, here, shared_queries)
    scale = queries.shape[-1] ** -0.5 if scale is None else scale
    local = functools.partial(_local, window=window, scale=scale, implementation=implementation)
    asked = Asked(queries, query_spans, positions, shared_queries)
    if sharing() is None and all(isinstance(part, Keys) for part in parts):
        return local(asked, here)
    return attend(local, asked, parts)


def _local(
    asked: Asked, parts: tuple[Keys, ...], *, implementation: Implementation | None, **settings: Any
) -> tuple[jax.Array, jax.Array]:
    """Attention over keys that are all here, by the form that is chosen."""
    forms = {
        "reference": functools.partial(reference.span_attention, **settings),
        "tpu": _differentiable(tpu.span_attention, **settings),
        "gpu": _differentiable(gpu.span_attention, **settings),
    }
    modules = {"tpu": tpu, "gpu": gpu}

    def unsupported(name, queries, query_spans, positions, parts, shared_queries):
        if name not in modules:
            return None
        return modules[name].unsupported(queries, parts, shared_queries)

    return dispatch(
        "span_attention",
        forms,
        asked.queries,
        asked.query_spans,
        asked.positions,
        parts,
        asked.shared_queries,
        implementation=implementation,
        unsupported=unsupported,
        heads=((1, None, None, tuple(_heads(part) for part in parts), 1), (1, 1)),
    )


def _heads(part: Keys) -> Keys:
    """The axes of its arrays that are heads."""
    return Keys(1, 1, None, None, None, None)  # type: ignore[arg-type]


def _differentiable(kernel: Any, **settings: Any) -> Any:
    """The kernel with the gradient of the reference."""

    @jax.custom_vjp
    def call(*arrays):
        return kernel(*arrays, **settings)

    def forward(*arrays):
        return call(*arrays), arrays

    def backward(arrays, gradients):
        _, pull = jax.vjp(functools.partial(reference.span_attention, **settings), *arrays)
        return pull(gradients)

    call.defvjp(forward, backward)
    return call


def _check(
    queries: jax.Array,
    query_spans: jax.Array,
    parts: tuple[Keys, ...],
    positions: jax.Array | None,
    window: int | None,
) -> None:
    if queries.ndim != 4:
        raise ValueError(f"queries must be [B, H, T, D], got {queries.shape}")
    batch, heads, length, width = queries.shape
    if query_spans.shape != (batch, length, 2):
        raise ValueError(f"query_spans must be {(batch, length, 2)}, got {query_spans.shape}")
    if not parts:
        raise ValueError("there must be at least 1 part of keys, got 0")
    for number, part in enumerate(parts):
        kv_heads, slots = part.keys.shape[1:3]
        want = (batch, kv_heads, slots, width)
        if part.keys.shape != want or part.values.shape != want:
            raise ValueError(
                f"part {number}: keys and values must be {want}, got {part.keys.shape} and {part.values.shape}"
            )
        if heads % kv_heads or kv_heads != parts[0].keys.shape[1]:
            raise ValueError(f"part {number}: {kv_heads} key-value heads for {heads} query heads")
        if part.key_spans.shape != (batch, slots, 2):
            raise ValueError(
                f"part {number}: key_spans must be {(batch, slots, 2)}, got {part.key_spans.shape}"
            )
        for name in ("positions", "bias"):
            held = getattr(part, name)
            if held is not None and held.shape != (batch, slots):
                raise ValueError(
                    f"part {number}: {name} must be {(batch, slots)}, got {held.shape}"
                )
        if window is not None and part.positions is None:
            raise ValueError(f"part {number}: a window of {window} needs positions, got None")
    if window is not None and positions is None:
        raise ValueError(f"a window of {window} needs the queries' positions, got None")
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    if positions is not None and positions.shape != (batch, length):
        raise ValueError(f"positions must be {(batch, length)}, got {positions.shape}")


def _check_shared(
    queries: jax.Array, parts: tuple[Keys, ...], shared_queries: jax.Array | None
) -> None:
    held = [None if part.shared_keys is None else part.shared_keys.shape for part in parts]
    if shared_queries is None:
        if any(held):
            raise ValueError(f"shared_keys {held} of the parts need shared_queries, got None")
        return
    if shared_queries.ndim != 4 or shared_queries.shape[:3] != queries.shape[:3]:
        raise ValueError(
            f"shared_queries must be {(*queries.shape[:3], 'E')}, got {shared_queries.shape}"
        )
    for number, (part, shape) in enumerate(zip(parts, held, strict=True)):
        want = (queries.shape[0], part.keys.shape[2], shared_queries.shape[3])
        if shape != want:
            raise ValueError(f"part {number}: shared_keys must be {want}, got {shape}")
