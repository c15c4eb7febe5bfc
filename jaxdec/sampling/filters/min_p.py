"""Min-p (2407.01082)."""

import jax
import jax.numpy as jnp

from jaxdec.sampling.filters.contract import Filter, log_floor
from jaxdec.sampling.limits import Limit


def min_p(log_probs: jax.Array, min_p: jax.Array) -> jax.Array:
    """Keeps p >= min_p max p."""
    return log_probs >= jnp.max(log_probs, axis=-1, keepdims=True) + log_floor(min_p)


MIN_P = Filter(
    "min_p",
    min_p,
    Limit(lambda value: (value >= 0) & (value <= 1), "in [0, 1] (0 = off)"),
    any_order=True,
)
