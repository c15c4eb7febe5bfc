"""Where more samples, or more rounds, stop paying: a saturating curve, its fit and its budget (TTSPM).

    F(N) = F_max (1 - (1 - p)^N),   F(N + 1) - F(N) = F_max p (1 - p)^N

p is the chance that one more sample (or one round of rethinking) brings the answer, F_max what is reached in the end.

Legend: M measured budgets; leading axes `[...]` are problems or tasks.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.search.selection.arrays import check_shape, reals, whole

_GRID, _NARROWING = 256, 48
"""Candidates for p, and the steps of a golden section between the best one's neighbours."""
_GOLDEN = 0.6180339887498949
_ROUNDING = 32
"""Units in the last place by which a gain may miss the least one that is asked for."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Saturation:
    """A saturating curve.

    Attributes:
      p: `[...]`, in [0, 1], the success of one more unit.
      ceiling: `[...]`, F_max, what is reached in the end.
      residual: `[...]`, the root of the mean squared distance to what was measured; 0 for a curve that was not fitted.
    """

    p: jax.Array
    ceiling: jax.Array
    residual: jax.Array

    def expected(self, n: Any) -> jax.Array:
        """F(N) of budgets N `[...]`, in the units of what was measured."""
        return self.ceiling * _reached(self.p, reals("n", n))

    def gain(self, n: Any) -> jax.Array:
        """F(N + 1) - F(N), what one more unit brings, of budgets N `[...]`."""
        return _gain(self.p, self.ceiling, reals("n", n))

    def budget(self, least_gain: Any) -> jax.Array:
        """`saturation_budget` of this curve."""
        return saturation_budget(self.p, self.ceiling, least_gain)


def saturation_budget(p: Any, ceiling: Any, least_gain: Any) -> jax.Array:
    """The least budget after which one more unit gains no more than `least_gain`.

        N* = min { N >= 0 : F_max p (1 - p)^N <= eps } = max(0, ceil(log(eps / (F_max p)) / log(1 - p)))

    Args:
      p: `[...]`, in [0, 1].
      ceiling: `[...]`, F_max, at least 0.
      least_gain: `[...]`, eps, at least 0, in the units of the ceiling.

    Returns:
      int32 `[...]`: 0 where p or the ceiling is 0 or the first unit gains no more than eps; 1 for p = 1 else; the
      largest int32 where no budget is enough (eps = 0).

    Raises:
      ValueError: for other types.

    Exactness: the least such N; gains that agree with eps but for rounding are no more than it.
    Source: "Scaling over Scaling", 2505.20522.
    """
    p, ceiling, eps = reals("p", p), reals("ceiling", ceiling), reals("least_gain", least_gain)
    p, ceiling, eps = jnp.broadcast_arrays(p, ceiling, eps)
    most = jnp.iinfo(jnp.int32).max
    inside = (p > 0) & (p < 1) & (ceiling > 0) & (eps > 0)
    safe = lambda x: jnp.where(inside, x, 0.5)
    guess = jnp.ceil(jnp.log(safe(eps) / (safe(ceiling) * safe(p))) / jnp.log1p(-safe(p)))
    guess = jnp.clip(guess, 0, 2**30)
    # Logarithms may round across a whole number: the gains themselves decide between neighbours.
    eps = eps * (1 + _ROUNDING * jnp.finfo(eps.dtype).eps)
    enough = lambda n: _gain(p, ceiling, n) <= eps
    lower = jnp.maximum(guess - 1, 0)
    n = jnp.where(enough(lower), lower, jnp.where(enough(guess), guess, guess + 1))
    n = jnp.where(inside, n, 0)
    first = _gain(p, ceiling, jnp.zeros_like(p)) > eps
    n = jnp.where(first & (p >= 1), 1, n).astype(jnp.int32)
    return jnp.where(first & (p < 1) & (eps <= 0), most, jnp.where(first, n, 0)).astype(jnp.int32)


def fit_saturation(budgets: Any, measured: Any, weights: Any = None) -> Saturation:
    """The curve through some pilot measurements, by least squares.

        minimise over p in (0, 1), F_max >= 0:   sum_m w_m (F_max (1 - (1 - p)^N_m) - y_m)^2

    F_max is linear, so p alone is searched: on a grid of -log(1 - p), then by golden section around the best of it.

    Args:
      budgets: int `[..., M]`, N, at least 1; two different ones at least, for two unknowns.
      measured: `[..., M]`, y, such as accuracies.
      weights: `[..., M]`, at least 0; 1 each if not given.

    Returns:
      The curve.

    Raises:
      ValueError: for other types or shapes, or budgets below 1.

    Exactness: the best of the grid, then a local minimum to about four digits of p in float32.
    """
    n, y = whole("budgets", budgets, 1, 1), reals("measured", measured, 1)
    check_shape("measured", y, n.shape)
    w = jnp.ones(y.shape, y.dtype) if weights is None else reals("weights", weights)
    check_shape("weights", w, y.shape)
    n, w = n.astype(y.dtype), w.astype(y.dtype)

    def at(rate):  # [...], log of -log(1 - p): ceiling and loss
        curve = -jnp.expm1(-n * jnp.exp(rate)[..., None])
        scale = (w * curve * y).sum(-1) / jnp.maximum((w * curve * curve).sum(-1), 1e-30)
        scale = jnp.maximum(scale, 0)
        return scale, (w * (scale[..., None] * curve - y) ** 2).sum(-1)

    loss = lambda rate: at(rate)[1]
    grid = jnp.linspace(-12, 3, _GRID, dtype=y.dtype)  # p from 6e-6 to 1 - 2e-9
    losses = jax.vmap(lambda rate: loss(jnp.full(y.shape[:-1], rate)))(grid)
    best = grid[jnp.argmin(losses, 0)]
    width = grid[1] - grid[0]

    def narrow(_, bracket):
        low, high = bracket
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        smaller = loss(left) <= loss(right)
        return jnp.where(smaller, low, left), jnp.where(smaller, right, high)

    low, high = jax.lax.fori_loop(0, _NARROWING, narrow, (best - width, best + width))
    rate = (low + high) / 2
    ceiling, left = at(rate)
    residual = jnp.sqrt(left / jnp.maximum(w.sum(-1), 1e-30))
    return Saturation(-jnp.expm1(-jnp.exp(rate)), ceiling, residual)


def _reached(p: jax.Array, n: jax.Array) -> jax.Array:
    """1 - (1 - p)^N."""
    sure = p >= 1
    return jnp.where(sure, n > 0, -jnp.expm1(n * jnp.log1p(-jnp.where(sure, 0, p))))


def _gain(p: jax.Array, ceiling: jax.Array, n: jax.Array) -> jax.Array:
    sure = p >= 1
    left = jnp.where(sure, n <= 0, jnp.exp(n * jnp.log1p(-jnp.where(sure, 0, p))))
    return ceiling * p * left
