"""Span attention in plain jnp: the specification."""

import jax
import jax.numpy as jnp

from pallas_kernels.span_attention.parts import Keys


def span_attention(
    queries: jax.Array,
    query_spans: jax.Array,
    positions: jax.Array | None,
    parts: tuple[Keys, ...],
    *,
    window: int | None,
    scale: float,
) -> tuple[jax.Array, jax.Array]:
    """See `pallas_kernels.span_attention.api`."""
    batch, heads, length, width = queries.shape
    kv_heads = parts[0].keys.shape[1]
    # The whole query group of a key-value head is one matrix product: each key is read once.
    grouped = queries.reshape(batch, kv_heads, heads // kv_heads * length, width) * scale
    split = (batch, kv_heads, heads // kv_heads, length)

    def scores(part: Keys) -> jax.Array:
        keys = part.keys.astype(grouped.dtype)
        logits = jnp.einsum(
            "bkgd,bksd->bkgs", grouped, keys, preferred_element_type=jnp.float32
        ).reshape(*split, -1)
        if part.bias is not None:
            logits += part.bias[:, None, None, None]
        seen = visible(query_spans, positions, part, window)
        return jnp.where(seen[:, None, None], logits, -jnp.inf)

    scored = [scores(part) for part in parts]
    top = jnp.max(jnp.stack([part.max(-1) for part in scored]), axis=0)[..., None]
    top = jnp.where(top == -jnp.inf, 0.0, top)
    total, mixed = jnp.zeros(()), jnp.zeros(())
    for part, logits in zip(parts, scored, strict=True):
        weights = jnp.exp(logits - top)
        total += weights.sum(-1, keepdims=True)
        flat = weights.reshape(*grouped.shape[:3], -1).astype(grouped.dtype)
        values = part.values.astype(grouped.dtype)
        out = jnp.einsum("bkgs,bksd->bkgd", flat, values, preferred_element_type=jnp.float32)
        mixed += out.reshape(*split, width)
    mixed = mixed / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)
    seen = total > 0
    log_sum = jnp.where(seen, jnp.log(jnp.where(seen, total, 1.0)) + top, -jnp.inf)[..., 0]
    return (
        mixed.reshape(queries.shape).astype(queries.dtype),
        log_sum.reshape(queries.shape[:3]),
    )


def visible(
    query_spans: jax.Array, positions: jax.Array | None, part: Keys, window: int | None
) -> jax.Array:
    """Which keys each query sees, bool `[B, T, S]`."""
    starts, stops = part.key_spans[:, None, :, 0], part.key_spans[:, None, :, 1]
    seen = (starts <= query_spans[..., :1]) & (query_spans[..., 1:] <= stops)
    if window is None:
        return seen
    assert positions is not None and part.positions is not None
    return seen & (jnp.abs(positions[:, :, None] - part.positions[:, None]) < window)
