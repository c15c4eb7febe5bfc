"""Min-p (2407.01082)."""

import jax
import jax.numpy as jnp


def min_p(log_probs: jax.Array, min_p: jax.Array) -> jax.Array:
    """Keeps p >= min_p max p."""
    return log_probs >= jnp.max(log_probs, axis=-1, keepdims=True) + jnp.log(min_p)
