"""Locally typical sampling (2202.00666)."""

import jax
import jax.numpy as jnp

from jaxdec.sampling.filters.contract import Filter
from jaxdec.sampling.filters.ranking import mass_before, prefix, ranks, surprise, unsorted
from jaxdec.sampling.limits import Limit


def typical(log_probs: jax.Array, mass: jax.Array) -> jax.Array:
    """Keeps, in order of |-log p - H|, while the mass strictly before is < mass."""
    probs = jnp.exp(log_probs)
    entropy = jnp.sum(surprise(log_probs, probs), axis=-1, keepdims=True)
    _, probs, order = jax.lax.sort(
        (jnp.abs(-log_probs - entropy), probs, ranks(log_probs)), num_keys=1, is_stable=True
    )
    return unsorted(prefix(mass_before(probs) < mass), order) | (mass >= 1)


TYPICAL = Filter(
    "typical", typical, Limit(lambda value: (value > 0) & (value <= 1), "in (0, 1] (1 = off)")
)
