"""Laws and noise of siblings.

Legend: B rows, C nodes, V vocabulary.
"""

import jax
import jax.numpy as jnp

from jaxdec.sampling import Purpose, key_at
from jaxdec.speculative.contract import Context


def own_noise(context: Context, depth: jax.Array, slots: int) -> jax.Array:
    """Gumbel noise `[B, slots, V]` for independent draws at one depth; slot 0 has that of the context."""
    given = jax.lax.dynamic_slice_in_dim(context.noise, depth, 1, axis=1)
    if slots == 1:
        return given
    rounds = context.rows.rounds[:, None]
    deep = context.noise.shape[1]
    places = depth + deep * jnp.arange(1, slots)
    keys = lambda: key_at(context.keys, Purpose.DRAFT, rounds, places)
    shape = (rounds.shape[0], slots - 1, context.vocab_size)
    return jnp.concatenate([given, context.settings.warp.noise(keys, shape)], axis=1)


def without_earlier_siblings(
    law: jax.Array, tokens: jax.Array, parents: jax.Array, mask: jax.Array, greedy: jax.Array
) -> jax.Array:
    """The law of each node given that its earlier siblings were drawn before it, without replacement.

    Args:
      law: float32 `[B, C, V]`, of the nodes' parents.
      tokens: int32 `[B, C]`.
      parents: int32 `[B, C]`.
      mask: bool `[B, C]`.
      greedy: bool `[B, 1, 1]`, rows whose nodes are chosen: their laws are one-hot.

    Returns:
      float32 `[B, C, V]`, log-probabilities; one-hot too where no other token is left.
    """
    count, size = law.shape[1:]
    earlier = (parents[:, :, None] == parents[:, None, :]) & jnp.tri(count, k=-1, dtype=bool)
    earlier &= mask[:, None, :]
    drawn = jax.nn.one_hot(tokens, size, dtype=jnp.float32)
    removed = jnp.einsum("bce,bev->bcv", earlier.astype(jnp.float32), drawn) > 0
    left = jax.nn.log_softmax(jnp.where(removed, -jnp.inf, law))
    # Without earlier siblings the law itself, to the bit.
    left = jnp.where(removed.any(-1, keepdims=True), left, law)
    sure = jnp.where(drawn > 0, 0.0, -jnp.inf)
    return jnp.where(greedy | ~jnp.isfinite(left).any(-1, keepdims=True), sure, left)
