"""Top-H: the longest prefix of bounded entropy (2509.02510)."""

import jax
import jax.numpy as jnp

from jaxdec.sampling.filters.contract import Filter
from jaxdec.sampling.filters.ranking import is_argmax, prefix, surprise
from jaxdec.sampling.limits import Limit


def top_h(log_probs: jax.Array, alpha: jax.Array) -> jax.Array:
    """Keeps the ranks k with H_k <= alpha H, and the argmax.

    H_k is the entropy of the first k tokens renormalised: with s_k and e_k the sums of p and of
    -p log p up to k, H_k = log s_k + e_k / s_k. It never falls as k grows, so that counting the
    ranks that pass finds the first that fails.

    The rule of the paper. The processor of this name in `transformers` is another one, by design left alone here: it
    compares e_k itself with alpha H, without renormalising, over the most probable tokens only.
    """
    probs = jnp.exp(log_probs)
    mass = jnp.cumsum(probs, axis=-1)
    partial = jnp.cumsum(surprise(log_probs, probs), axis=-1)
    # No mass yet where the typical filter removed the leading tokens.
    safe = jnp.where(mass > 0, mass, 1.0)
    prefix_entropy = jnp.log(safe) + partial / safe
    within = prefix_entropy <= alpha * partial[..., -1:]
    return prefix(within) | is_argmax(log_probs) | (alpha >= 1)


TOP_H = Filter(
    "top_h", top_h, Limit(lambda value: (value > 0) & (value <= 1), "in (0, 1] (1 = off)")
)
