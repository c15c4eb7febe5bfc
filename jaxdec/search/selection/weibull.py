"""A mixture of two Weibull laws by maximum likelihood, in a fixed number of steps.

Legend: N values; leading axes `[...]` are prompts.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from jaxdec.arguments import check_type
from jaxdec.search.selection.arrays import flags, reals

STEPS = 60
"""Newton steps; a fit of two separate components is at rest after about twenty."""
LEAST = 0.01
"""Of shapes and scales."""
START = (0.5, 1.0, 1.0, 1.5, 2.0)
"""Weight of the first component, its shape and scale, shape and scale of the second."""
_STEEPEST = 80.0
"""Exponents at most: the density there is 0 in float32, and its gradient must be a number."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mixture:
    """w Wb(x; k_0, l_0) + (1 - w) Wb(x; k_1, l_1), component 0 being that of the larger mean l Gamma(1 + 1 / k).

    Attributes:
      weight: `[...]`, w, in [0.2, 0.8].
      shapes: `[..., 2]`, k, at least 0.01.
      scales: `[..., 2]`, l, at least 0.01, in units of x.
      loss: `[...]`, minus the mean log-likelihood of the values, in nats.
    """

    weight: jax.Array
    shapes: jax.Array
    scales: jax.Array
    loss: jax.Array

    def log_parts(self, log_values: jax.Array) -> jax.Array:
        """log of each component's weight times its density, `[..., N, 2]`, at values given by their logs `[..., N]`."""
        return _log_parts(self.weight, self.shapes, self.scales, log_values)


def weibull_mixture(log_values: Any, valid: Any = None, steps: int = STEPS) -> Mixture:
    """Fits a mixture of two Weibull laws by damped Newton steps in unbounded parameters, all in log space.

        f(x) = w Wb(x; k_0, l_0) + (1 - w) Wb(x; k_1, l_1)
        log Wb(x; k, l) = log k - log l + (k - 1) (log x - log l) - (x / l)^k

    Along each direction of curvature a step is the gradient over the absolute curvature, so that saddle points repel;
    it is taken only if the likelihood rises. It starts at w = 0.5, (k, l) = (1, 1) and (1.5, 2).

    Args:
      log_values: `[..., N]`, log x.
      valid: bool `[..., N]`, which values count; those that are finite if not given. Others are not read.
      steps: how many.

    Returns:
      The mixture; whatever the start gives where no value counts.

    Raises:
      ValueError: for other types or shapes, or no steps.

    Exactness: a local maximum of the likelihood, as any optimiser finds from this start.
    """
    log_values = reals("log_values", log_values, 1)
    valid = flags("valid", valid, log_values.shape) & jnp.isfinite(log_values)
    check_type("steps", steps, int)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    fit = jnp.vectorize(lambda x, there: _fit(x, there, steps), signature="(n),(n)->(k),()")
    free, loss = fit(jnp.where(valid, log_values, 0), valid)
    weight, shapes, scales = _bounded(free)
    means = jnp.log(scales) + gammaln(1 + 1 / shapes)
    swap = means[..., 1] > means[..., 0]
    order = lambda pair: jnp.where(swap[..., None], pair[..., ::-1], pair)
    return Mixture(jnp.where(swap, 1 - weight, weight), order(shapes), order(scales), loss)


def _log_parts(
    weight: jax.Array, shapes: jax.Array, scales: jax.Array, log_values: jax.Array
) -> jax.Array:
    weights = jnp.log(jnp.stack([weight, 1 - weight], -1))[..., None, :]
    shapes, log_scales = shapes[..., None, :], jnp.log(scales)[..., None, :]
    behind = log_values[..., None] - log_scales
    power = jnp.exp(jnp.minimum(shapes * behind, _STEEPEST))
    return weights + jnp.log(shapes) - log_scales + (shapes - 1) * behind - power


def _bounded(free: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Weight, shapes and scales of unbounded parameters `[..., 5]`."""
    weight = 0.2 + 0.6 * jax.nn.sigmoid(free[..., 0])
    positive = LEAST + jnp.exp(free[..., 1:])
    return weight, positive[..., 0::2], positive[..., 1::2]


def _fit(log_values: jax.Array, valid: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """Unbounded parameters `[5]` and the loss of one row of values `[N]`."""
    dtype = log_values.dtype
    count = jnp.maximum(valid.sum(), 1).astype(dtype)

    def loss(free):
        parts = _log_parts(*_bounded(free), log_values)
        return -jnp.where(valid, jnp.logaddexp(parts[:, 0], parts[:, 1]), 0).sum() / count

    slope, curvature = jax.grad(loss), jax.hessian(loss)
    finite = lambda x: jnp.where(jnp.isfinite(x), x, 0)

    def step(_, held):
        free, best, damping = held
        values, vectors = jnp.linalg.eigh(finite(curvature(free)))
        along = (vectors * finite(slope(free))[:, None]).sum(0) / (jnp.abs(values) + damping)
        new = free - jnp.clip((vectors * along).sum(1), -1, 1)
        found = loss(new)
        better = found < best  # never for NaN
        damping = jnp.clip(jnp.where(better, damping / 4, damping * 4), 1e-6, 1e6)
        return jnp.where(better, new, free), jnp.where(better, found, best), damping

    start = jnp.log(jnp.array(START, dtype) - LEAST)
    start = start.at[0].set(0)  # the middle of the range of weights
    free, best, _ = jax.lax.fori_loop(0, steps, step, (start, loss(start), jnp.asarray(0.1, dtype)))
    return free, best
