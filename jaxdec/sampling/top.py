"""The most probable tokens of a law, for reports.

Legend: V vocabulary, K reported tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp

from pallas_kernels import top_k


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TopTokens:
    """The K most probable tokens of some laws, the most probable first; of equals the lower id first.

    Attributes:
      tokens: int32 `[..., K]`.
      log_probs: float32 `[..., K]`.
    """

    tokens: jax.Array
    log_probs: jax.Array

    @classmethod
    def empty(cls, shape: tuple[int, ...], count: int) -> "TopTokens | None":
        """Zeros `[*shape, K]`; None for a K of 0."""
        if not count:
            return None
        shape = (*shape, count)
        return cls(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32))


def top_tokens(logits: jax.Array, count: int) -> TopTokens | None:
    """The most probable tokens of `softmax(logits)`; None, and nothing computed, for a count of 0.

    Args:
      logits: `[..., V]`.
      count: K, static, at most V.
    """
    if not count:
        return None
    logits = logits.astype(jnp.float32)
    values, tokens = top_k(logits, count)
    totals = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    return TopTokens(tokens.astype(jnp.int32), values - totals)
