"""What filters share: ranks, prefixes and masses of sorted laws.

Legend: V vocabulary.
"""

import jax
import jax.numpy as jnp


def ranks(like: jax.Array) -> jax.Array:
    """0 .. V-1 along the last axis, int32 of the shape of `like`."""
    return jax.lax.broadcasted_iota(jnp.int32, like.shape, like.ndim - 1)


def is_argmax(values: jax.Array, top: jax.Array | None = None) -> jax.Array:
    """True at the lowest-index maximum of `[..., V]`; `top [..., 1]` is the maximum, where it is known already."""
    places = ranks(values)
    if top is None:
        return places == jnp.argmax(values, axis=-1, keepdims=True)
    size = values.shape[-1]
    return places == jnp.min(jnp.where(values == top, places, size), axis=-1, keepdims=True)


def prefix(within: jax.Array) -> jax.Array:
    """The ranks below the count of True, at least rank 0: free of holes left by rounding."""
    count = jnp.sum(within, axis=-1, keepdims=True)
    return ranks(within) < jnp.maximum(count, 1)


def mass_before(probs: jax.Array) -> jax.Array:
    """Sum of the probabilities at lower ranks, `[..., V]`."""
    # Shifted rather than cumsum - p: the subtraction would round a second time.
    before = jnp.cumsum(probs[..., :-1], axis=-1)
    return jnp.concatenate([jnp.zeros_like(probs[..., :1]), before], axis=-1)


def surprise(log_probs: jax.Array, probs: jax.Array) -> jax.Array:
    """-p log p, with 0 log 0 = 0."""
    return jnp.where(probs > 0, -probs * log_probs, 0.0)


def unsorted(values: jax.Array, order: jax.Array) -> jax.Array:
    """Undoes a sort: `result[..., order[..., i]] = values[..., i]`."""
    return jnp.put_along_axis(jnp.zeros_like(values), order, values, axis=-1, inplace=False)
