"""Epsilon sampling (2210.15191)."""

import jax

from jaxdec.sampling.filters.contract import Filter, log_floor
from jaxdec.sampling.filters.ranking import is_argmax
from jaxdec.sampling.limits import Limit


def epsilon(log_probs: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Keeps p >= epsilon, and the argmax."""
    return (log_probs >= log_floor(epsilon)) | is_argmax(log_probs)


EPSILON = Filter(
    "epsilon",
    epsilon,
    Limit(lambda value: (value >= 0) & (value < 1), "in [0, 1) (0 = off)"),
    any_order=True,
)
