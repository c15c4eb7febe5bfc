"""Span attention in plain jnp: the specification."""

import jax
import jax.numpy as jnp

from pallas_kernels.span_attention.parts import Keys


def span_attention(
    queries: jax.Array,
    query_spans: jax.Array,
    positions: jax.Array | None,
    parts: tuple[Keys, ...],
    shared_queries: jax.Array | None = None,
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

    def scores(part: Keys, seen: jax.Array) -> jax.Array:
        keys = part.keys.astype(grouped.dtype)
        logits = jnp.einsum(
            "bkgd,bksd->bkgs", grouped, keys, preferred_element_type=jnp.float32
        ).reshape(*split, -1)
        if shared_queries is not None:
            # Float32 factors are not cut to bfloat16 where that is the default.
            logits += scale * jnp.einsum(
                "bhte,bse->bhts",
                shared_queries,
                part.shared_keys,
                precision=jax.lax.Precision.HIGHEST,
                preferred_element_type=jnp.float32,
            ).reshape(*split, -1)
        if part.bias is not None:
            logits += part.bias[:, None, None, None]
        return jnp.where(seen[:, None, None], logits, -jnp.inf)

    seen = [visible(query_spans, positions, part, window) for part in parts]
    scored = [scores(part, see) for part, see in zip(parts, seen, strict=True)]
    top = jnp.max(jnp.stack([part.max(-1) for part in scored]), axis=0)[..., None]
    top = jnp.where(top == -jnp.inf, 0.0, top)
    weights = [jnp.exp(logits - top) for logits in scored]
    total = sum(w.sum(-1, keepdims=True) for w in weights)

    def mix(weights: list[jax.Array], values: list[jax.Array]) -> jax.Array:
        mixed = jnp.zeros(())
        for w, v in zip(weights, values, strict=True):
            flat = w.reshape(*grouped.shape[:3], -1).astype(grouped.dtype)
            v = v.astype(grouped.dtype)
            out = jnp.einsum("bkgs,bksd->bkgd", flat, v, preferred_element_type=jnp.float32)
            mixed += out.reshape(*split, width)
        return mixed

    def cleaned(given: tuple[list[jax.Array], list[jax.Array]]) -> jax.Array:
        """The same without values that are not finite, but for the queries that see one."""
        fine = [jnp.isfinite(v) for v in given[1]]
        spoiled = [
            see[:, None, None] & ~ok.all(-1)[:, :, None, None]
            for see, ok in zip(seen, fine, strict=True)
        ]
        return mix(
            [jnp.where(s, jnp.nan, w) for s, w in zip(spoiled, given[0], strict=True)],
            [jnp.where(ok, v, 0) for ok, v in zip(fine, given[1], strict=True)],
        )

    values = [part.values for part in parts]
    mixed = mix(weights, values)
    # What a query does not see may hold anything, and 0 times that need not be 0. To look for it would cost as much as
    # to read the values again, so they are cleaned where the result shows that something was there.
    finite = jnp.isfinite(mixed)
    held = jax.lax.stop_gradient((weights, values))
    again = jax.lax.cond(finite.all(), lambda _: jnp.zeros_like(mixed), cleaned, held)
    mixed = jnp.where(finite, mixed, again)
    mixed = mixed / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)
    some = total != 0
    log_sum = jnp.where(some, jnp.log(jnp.where(some, total, 1.0)) + top, -jnp.inf)[..., 0]
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
