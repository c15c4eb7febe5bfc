"""Epsilon sampling (2210.15191)."""

import jax
import jax.numpy as jnp

from jaxdec.sampling.filters.ranking import is_argmax


def epsilon(log_probs: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Keeps p >= epsilon, and the argmax."""
    return (log_probs >= jnp.log(epsilon)) | is_argmax(log_probs)
