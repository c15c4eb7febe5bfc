"""Top-k."""

import jax

from jaxdec.sampling.filters.ranking import ranks

# The filters. Each takes log-probabilities [B, ..., V] in descending order, with -inf for tokens
# that earlier filters removed, and a knob that broadcasts to them; it returns a keep mask.


def top_k(log_probs: jax.Array, k: jax.Array) -> jax.Array:
    """Keeps rank < k."""
    return (ranks(log_probs) < k) | (k <= 0)
