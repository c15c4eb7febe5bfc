"""Resampling: which hypotheses go on, and how often, by their weights.

Every scheme gives hypothesis h on average `H w_h` successors, which is what keeps estimates unbiased.

Legend: H hypotheses.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdec.sampling import gumbel, uniform

Scheme = Callable[[jax.Array, jax.Array], jax.Array]
"""`scheme(key, weights [H]) -> int32 [H]`, the ancestor of each successor; weights sum to 1."""


def effective_size(log_weights: jax.Array) -> jax.Array:
    """The effective number of hypotheses, `(sum w)^2 / sum w^2`; of `[..., H]` log-weights, float32 `[...]`.

    0 where no weight is above 0.
    """
    total = jax.nn.logsumexp(log_weights, axis=-1)
    size = jnp.exp(2 * total - jax.nn.logsumexp(2 * log_weights, axis=-1))
    return jnp.where(jnp.isfinite(total), size, 0.0)


def _at(weights: jax.Array, points: jax.Array) -> jax.Array:
    """The hypotheses at points in [0, 1) of the cumulated weights; never one of weight 0."""
    bounds = jnp.cumsum(weights)
    found = jnp.searchsorted(bounds / bounds[-1], points, side="right").astype(jnp.int32)
    # Rounding may leave a point past the last bound.
    heaviest = jnp.max(jnp.where(weights > 0, jnp.arange(len(weights), dtype=jnp.int32), 0))
    return jnp.minimum(found, heaviest)


def systematic(key: jax.Array, weights: jax.Array) -> jax.Array:
    """One uniform u, points `(i + u) / H`: hypothesis h gets `floor(H w_h)` or `ceil(H w_h)` successors.

    Args:
      key: one key.
      weights: float32 `[H]`, summing to 1.

    Returns:
      int32 `[H]`, ascending.
    """
    size = len(weights)
    return _at(weights, (jnp.arange(size) + uniform(key)) / size)


def stratified(key: jax.Array, weights: jax.Array) -> jax.Array:
    """Points `(i + u_i) / H`, a uniform each; as `systematic`."""
    size = len(weights)
    return _at(weights, (jnp.arange(size) + uniform(jax.random.split(key, size))) / size)


def multinomial(key: jax.Array, weights: jax.Array) -> jax.Array:
    """Independent draws from the weights; as `systematic`."""
    size = len(weights)
    noise = gumbel(jax.random.split(key, size), size)
    return jnp.argmax(jnp.log(weights) + noise, axis=-1).astype(jnp.int32)


def residual(key: jax.Array, weights: jax.Array) -> jax.Array:
    """`floor(H w_h)` successors for certain, the rest drawn from what is left of the weights; as `systematic`."""
    size = len(weights)
    expected = size * weights / jnp.sum(weights)
    certain = jnp.floor(expected)
    kept = jnp.sum(certain).astype(jnp.int32)
    place = jnp.arange(size, dtype=jnp.int32)
    held = jnp.searchsorted(jnp.cumsum(certain), place, side="right").astype(jnp.int32)
    left = expected - certain
    left = left / jnp.maximum(jnp.sum(left), jnp.finfo(jnp.float32).tiny)
    return jnp.where(place < kept, jnp.minimum(held, size - 1), multinomial(key, left))


SCHEMES: dict[str, Scheme] = {
    "systematic": systematic,
    "stratified": stratified,
    "residual": residual,
    "multinomial": multinomial,
}
"""By name."""
