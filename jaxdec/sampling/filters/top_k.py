"""Top-k."""

import jax

from jaxdec.sampling.filters.contract import Filter
from jaxdec.sampling.filters.ranking import ranks
from jaxdec.sampling.limits import Limit


def top_k(log_probs: jax.Array, k: jax.Array) -> jax.Array:
    """Keeps rank < k."""
    return (ranks(log_probs) < k) | (k <= 0)


TOP_K = Filter(
    "top_k", top_k, Limit(lambda value: value >= 0, "an integer >= 0 (0 = off)", integer=True)
)
