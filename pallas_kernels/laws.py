"""The law that tokens are drawn from, in plain jnp: what the references of several operations share."""

import jax
import jax.numpy as jnp

TINY = float(jnp.finfo(jnp.float32).tiny)
"""Temperatures below count as 0, since some devices flush subnormal numbers."""


def warped(
    logits: jax.Array, temperature: jax.Array, banned: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities after bans and temperature.

    Args:
      logits: float32 `[..., V]`.
      temperature: float32 `[...]`; 0 is greedy: all mass on the first of the highest logits.
      banned: bool, broadcasts to `[..., V]`; None for none.

    Returns:
      The law `[..., V]`, NaN throughout where the logits hold NaN or +inf or no token is left; and the scores that it
      is the softmax of.
    """
    # Tested before bans, which would hide a broken model behind a legal law.
    broken = ~jnp.isfinite(jax.nn.logsumexp(logits, axis=-1, keepdims=True))
    if banned is not None:
        logits = jnp.where(banned, -jnp.inf, logits)
    top = jnp.max(logits, axis=-1, keepdims=True)
    broken |= ~jnp.isfinite(top)
    greedy = (temperature < TINY)[..., None]
    # Shifted first: a small temperature then sends logits to -inf, never to +inf.
    scores = (logits - top) / jnp.where(greedy, 1.0, temperature[..., None])
    # By the maximum that is known: over a vocabulary on several devices an argmax would be found, and sent, once more.
    places = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    best = jnp.min(jnp.where(logits == top, places, len(places)), axis=-1, keepdims=True) == places
    scores = jnp.where(greedy, jnp.where(best, 0.0, -jnp.inf), scores)
    # The highest score is 0: a softmax need not look for it.
    law = scores - jnp.log(jnp.sum(jnp.exp(scores), axis=-1, keepdims=True))
    return jnp.where(broken, jnp.nan, law), scores


def gumbel(keys: jax.Array, temperature: jax.Array, size: int) -> jax.Array:
    """Gumbel noise float32 `[..., size]` of keys `[...]` or their words; zeros, undrawn, if every temperature is 0."""
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        keys = jax.random.wrap_key_data(keys, impl="threefry2x32")
    draw = lambda key: jax.random.gumbel(key, (size,), jnp.float32, mode="high")
    for _ in keys.shape:
        draw = jax.vmap(draw)
    nothing = lambda keys: jnp.zeros((*keys.shape, size), jnp.float32)
    return jax.lax.cond(jnp.any(temperature > 0), draw, nothing, keys)
