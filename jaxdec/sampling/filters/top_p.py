"""Top-p: nucleus sampling (1904.09751)."""

import jax
import jax.numpy as jnp

from jaxdec.sampling.filters.contract import Filter
from jaxdec.sampling.filters.ranking import mass_before, prefix
from jaxdec.sampling.limits import Limit


def top_p(log_probs: jax.Array, top_p: jax.Array) -> jax.Array:
    """Keeps while the mass strictly before is < top_p."""
    return prefix(mass_before(jnp.exp(log_probs)) < top_p) | (top_p >= 1)


TOP_P = Filter(
    "top_p", top_p, Limit(lambda value: (value > 0) & (value <= 1), "in (0, 1] (1 = off)")
)
