"""The arithmetic of one pass over the vocabulary, shared by the kernels.

A state sums up the columns that were seen so far; every column adds to it, and states of parts of the vocabulary merge.
All arrays are float32: a token below 2^24 is exact, and reductions of integers are not everywhere to be had.

Legend: R rows, C columns, L lanes that each see a part of the columns.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.laws import TINY
from pallas_kernels.unmask.types import Statistics, Unmasked

LIMIT = 2**24
"""More tokens than these have no exact float32."""
LEAST = float(np.finfo(np.float32).min)
# exp of this is 0: a product of both is never infinity times 0.
_NOTHING = -200.0


class Sums(NamedTuple):
    """Of scores x: m = max x, the next highest, sum exp((x - m) / T), sum (x - m) / T exp((x - m) / T)."""

    best: jax.Array
    second: jax.Array
    total: jax.Array
    weighted: jax.Array


class Draw(NamedTuple):
    """The token with the highest perturbed score: its logit, its noise and itself."""

    logit: jax.Array
    noise: jax.Array
    token: jax.Array


class State(NamedTuple):
    """All that is remembered: of the model's own scores, of those that tokens are drawn from, and the draw."""

    own: Sums
    warped: Sums
    draw: Draw


def start(shape: tuple[int, ...]) -> State:
    """The state before the first column."""
    none, zero = jnp.full(shape, -jnp.inf, jnp.float32), jnp.zeros(shape, jnp.float32)
    nothing = Sums(none, none, zero, zero)
    return State(nothing, nothing, Draw(none, zero, zero))


STRUCTURE = jax.tree.structure(jax.eval_shape(lambda: start(())))
FIELDS = len(Sums._fields) * 2 + len(Draw._fields)


def sharpness(temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What scores are multiplied by, 1 / T or 1 where greedy, and noise, 1 or 0 where greedy."""
    greedy = temperature < TINY
    return 1 / jnp.where(greedy, 1.0, temperature), jnp.where(greedy, 0.0, 1.0)


def absorb(
    state: State,
    logits: list[jax.Array],
    allowed: list[jax.Array],
    columns: list[jax.Array],
    inverse: jax.Array,
    noise: list[jax.Array] | None,
) -> State:
    """The state `[R, L]` after some columns, a list of `[R, L]` in ascending order.

    Args:
      state: so far.
      logits: of the model; -inf past the end of the vocabulary.
      allowed: the same, -inf where banned as well.
      columns: tokens, float32.
      inverse: `[R, 1]`, see `sharpness`.
      noise: Gumbel noise, 0 in greedy rows; None if all rows are greedy, whose warped law is not summed up.
    """
    own = _add(state.own, logits, None)
    warped = state.warped if noise is None else _add(state.warped, allowed, inverse)
    logit, past, token = state.draw
    for i, (score, column) in enumerate(zip(allowed, columns, strict=True)):
        if noise is None:
            higher = score > logit
        else:
            # Two scores are compared by their difference, so that no maximum need be known.
            higher = (score - logit) * inverse > past - noise[i]
            past = jnp.where(higher, noise[i], past)
        logit = jnp.where(higher, score, logit)
        token = jnp.where(higher, column, token)
    return State(own, warped, Draw(logit, past, token))


def _add(sums: Sums, scores: list[jax.Array], inverse: jax.Array | None) -> Sums:
    """The sums after some more scores."""
    scaled = lambda x: x if inverse is None else x * inverse
    best, second, total, weighted = sums
    before = jnp.maximum(best, LEAST)
    for score in scores:
        second = jnp.maximum(second, jnp.minimum(best, score))
        best = jnp.maximum(best, score)
    shift = jnp.maximum(best, LEAST)
    total, weighted = _rescaled(total, weighted, scaled(before - shift))
    for score in scores:
        below = scaled(score - shift)
        mass = jnp.exp(below)
        total += mass
        weighted += jnp.maximum(below, _NOTHING) * mass
    return Sums(best, second, total, weighted)


def _rescaled(total: jax.Array, weighted: jax.Array, change: jax.Array):
    """The two sums when the maximum that they are relative to rises, `change` = -(rise) / T."""
    factor = jnp.exp(change)
    return factor * total, factor * (weighted + jnp.maximum(change, _NOTHING) * total)


def columns_apart(
    logits: jax.Array, allowed: jax.Array, column: jax.Array, noise: jax.Array | float
) -> State:
    """The state of each column by itself, `[R, C]`; arguments as of `absorb`."""

    def alone(x):
        # The product makes NaN of what is no number, even where a maximum passes over it.
        present = jnp.where(x == -jnp.inf, 0.0, 1.0 + 0.0 * x)
        return Sums(x, jnp.full_like(x, -jnp.inf), present, jnp.zeros_like(x))

    noise = jnp.broadcast_to(noise, logits.shape)
    return State(alone(logits), alone(allowed), Draw(allowed, noise, column))


def merge(state: State, inverse: jax.Array) -> State:
    """The state `[R, 1]` of all lanes of `[R, L]`; `inverse` `[R, 1]`."""
    most = lambda x: jnp.max(x, axis=-1, keepdims=True)
    logit, noise, token = state.draw
    score = (logit - jnp.maximum(most(logit), LEAST)) * inverse + noise
    # The lowest token among equals.
    drawn = jnp.min(jnp.where(score == most(score), token, LIMIT), axis=-1, keepdims=True)
    of_drawn = lambda x: most(jnp.where(token == drawn, x, -jnp.inf))
    return State(
        _merge(state.own, None),
        _merge(state.warped, inverse),
        Draw(of_drawn(logit), of_drawn(noise), drawn),
    )


def _merge(sums: Sums, inverse: jax.Array | None) -> Sums:
    most = lambda x: jnp.max(x, axis=-1, keepdims=True)
    add = lambda x: jnp.sum(x, axis=-1, keepdims=True)
    best = most(sums.best)
    ties = add(jnp.where(sums.best == best, 1.0, 0.0)) > 1
    below = most(jnp.where(sums.best == best, sums.second, sums.best))
    change = jnp.maximum(sums.best, LEAST) - jnp.maximum(best, LEAST)
    change = change if inverse is None else change * inverse
    total, weighted = _rescaled(sums.total, sums.weighted, change)
    return Sums(best, jnp.where(ties, best, below), add(total), add(weighted))


def finish(state: State, temperature: jax.Array) -> Unmasked:
    """Tokens and statistics of states `[N]` and temperatures `[N]`."""
    logit, _, token = state.draw
    inverse, _ = sharpness(temperature)
    greedy = temperature < TINY
    own = _statistics(state.own, logit, 1.0)
    shift = jnp.where(jnp.isfinite(own.logsumexp), state.own.best, 0.0)
    own = own._replace(logsumexp=own.logsumexp + shift)
    # Nothing is ever drawn where no token is left.
    broken = ~jnp.isfinite(own.logsumexp)
    none = broken | ~jnp.isfinite(logit)
    zero = jnp.zeros_like(logit)
    certain = Statistics(zero, zero, zero - jnp.inf, zero, zero)
    blank = lambda where: lambda x: jnp.where(where, jnp.nan, x)
    warped = jax.tree.map(
        lambda sure, x: jnp.where(greedy, sure, x),
        certain,
        _statistics(state.warped, logit, inverse),
    )
    own = jax.tree.map(blank(broken), own)
    return Unmasked(
        tokens=jnp.where(none, 0, token).astype(jnp.int32),
        own=own._replace(log_prob=blank(none)(own.log_prob)),
        warped=jax.tree.map(blank(none), warped),
    )


def _statistics(sums: Sums, logit: jax.Array, inverse: jax.Array | float) -> Statistics:
    """Of scores relative to their maximum, whose log-sum-exp is at least 0."""
    total = jnp.log(sums.total)
    below = lambda score: (score - sums.best) * inverse - total
    return Statistics(
        log_prob=below(logit),
        top=-total,
        second=below(sums.second),
        entropy=total - sums.weighted / sums.total,
        logsumexp=total,
    )
