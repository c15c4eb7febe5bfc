"""What attention reads, and how partial results are put together."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Keys(NamedTuple):
    """Tokens that can be attended to: the slots of a cache, or the new tokens.

    Attributes:
      keys: `[B, K, S, D]`.
      values: `[B, K, S, D]`.
      key_spans: int32 `[B, S, 2]`, the span `(start, stop)` over which each is seen.
      positions: int32 `[B, S]`, places in the sequence, for a `window`; else None.
      bias: float32 `[B, S]`, added to the scores of each key; None for zeros.
      shared_keys: float32 `[B, S, E]`, further columns of the keys, the same for all heads; None for none.
    """

    keys: jax.Array
    values: jax.Array
    key_spans: jax.Array
    positions: jax.Array | None = None
    bias: jax.Array | None = None
    shared_keys: jax.Array | None = None

    def with_shared(self, columns: jax.Array | None) -> "Keys":
        """The same with other `shared_keys`."""
        return self._replace(shared_keys=columns)


def merge(parts: list[tuple[jax.Array, jax.Array]]) -> tuple[jax.Array, jax.Array]:
    """Attention over the union of disjoint sets of keys, from the results over each.

        L = log sum_i exp L_i,   o = sum_i exp(L_i - L) o_i

    Serves caches that are split over devices, contexts that were encoded apart, and caches that rows share.

    Args:
      parts: outputs `[..., T, D]` and log-sum-exps float32 `[..., T]` (-inf where nothing was seen).

    Returns:
      The same of the union; zeros and -inf where no part saw anything.
    """
    tops = jnp.stack([log_sum for _, log_sum in parts])
    total = jax.nn.logsumexp(tops, axis=0)
    shift = jnp.where(total == -jnp.inf, 0.0, total)
    weights = jnp.exp(tops - shift)[..., None]
    mixed = sum(
        weight * out.astype(jnp.float32) for weight, (out, _) in zip(weights, parts, strict=True)
    )
    return mixed.astype(parts[0][0].dtype), total
