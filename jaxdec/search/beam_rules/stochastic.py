"""Stochastic beam search: sequences drawn without replacement.

Legend: P prompts, H hypotheses of a prompt, V vocabulary, k drawn sequences.
"""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import Exactness
from jaxdec.model import Params
from jaxdec.sampling import Purpose, gumbel, key_at
from jaxdec.search.beam_rules.contract import BeamRule, Choice, Continuations, best_of


def log1mexp(x: jax.Array) -> jax.Array:
    """`log(1 - exp(-x))` for x >= 0, without cancellation on either side of log 2."""
    near = x < np.log(2.0)
    safe = jnp.where(near, x, 1.0)
    return jnp.where(
        near, jnp.log(-jnp.expm1(-safe)), jnp.log1p(-jnp.exp(-jnp.where(near, 1.0, x)))
    )


def conditioned(perturbed: jax.Array, maximum: jax.Array) -> jax.Array:
    """Perturbed values, given that their maximum is another: the monotone map that keeps their law.

        exp(-G_v) = exp(-M) + exp(-g_v) - exp(-max_u g_u)

    so that `max_v G_v = M`, in the form that neither overflows nor cancels.

    Args:
      perturbed: g, `[..., V]`; -inf for what is impossible.
      maximum: M, `[...]`; -inf for what does not exist.

    Returns:
      G, `[..., V]`, -inf where g or M is.
    """
    exists = jnp.isfinite(perturbed) & jnp.isfinite(maximum)[..., None]
    top = jnp.max(jnp.where(exists, perturbed, -jnp.inf), axis=-1, keepdims=True)
    behind = jnp.where(exists, top - perturbed, 1.0)
    shift = jnp.where(exists, maximum[..., None] - perturbed, 0.0) + log1mexp(behind)
    moved = maximum[..., None] - jax.nn.softplus(shift)
    return jnp.where(exists, moved, -jnp.inf)


@dataclasses.dataclass(frozen=True)
class WithoutReplacement(BeamRule):
    """The continuations of highest perturbed log-probability, top down.

        G_root ~ Gumbel,   g_v = log p(y v) + Gumbel noise,   G_v = g_v given max_v g_v = G_y

    A hypothesis that has ended keeps its G. The k highest of all sequences are then an ordered sample without
    replacement of the warped law, the first of them a plain sample; noise is that of plain sampling.

    Exactness: distribution-identical. Reference: Stochastic Beams, arXiv:1903.06059.
    """

    sets_aside: bool = False
    draws: bool = True
    exactness: Exactness = Exactness.DISTRIBUTION_IDENTICAL

    def start(self, scores: jax.Array) -> Any:
        """The log-probability of each hypothesis, float32 `[B]`."""
        return jnp.zeros_like(scores)

    def choose(self, params: Params, seen: Continuations, count: int) -> Choice:
        """See `BeamRule.choose`."""
        size = seen.law.shape[-1]
        root_key = key_at(seen.keys[:, 0], Purpose.HYPOTHESIS, jnp.zeros_like(seen.new[:, 0]))
        begins = seen.running & (seen.new == 0) & jnp.isfinite(seen.scores)
        scores = jnp.where(begins, gumbel(root_key, 1), seen.scores)
        keys = key_at(seen.keys.reshape(-1), Purpose.TOKEN, seen.length.reshape(-1))
        noise = gumbel(keys, size).reshape(seen.law.shape)
        # All relative to the hypothesis, so that the best of one is that of plain sampling to the last bit.
        total = conditioned(seen.law + noise, scores - seen.own) + seen.own[..., None]
        best = jnp.argmax(seen.law + noise, axis=-1)[..., None] == jnp.arange(size)
        highest = scores[..., None]
        total = jnp.where(best & jnp.isfinite(total), highest, jnp.minimum(total, highest))
        stays = jnp.where(jnp.arange(size) == 0, highest, -jnp.inf)
        score, source, token = best_of(jnp.where(seen.running[..., None], total, stays), count)
        continued = jnp.take_along_axis(
            jnp.where(seen.running[..., None], seen.law, 0.0), source[..., None], axis=1
        )
        added = jnp.take_along_axis(continued, token[..., None], axis=-1)[..., 0]
        log_probs = jnp.take_along_axis(seen.own, source, axis=1) + added
        return Choice(source[:, None], token[:, None], score[:, None], log_probs[:, None])


def inclusion(log_probs: jax.Array, threshold: jax.Array) -> jax.Array:
    """The log-probability that a sequence is among those drawn, given the highest perturbed value that was not.

        log q(y) = log(1 - exp(-exp(log p(y) - kappa)))

    Args:
      log_probs: log p of the drawn sequences.
      threshold: kappa, the (k + 1)-th highest perturbed log-probability; -inf if there are no more than k sequences.
    """
    return log1mexp(jnp.exp(log_probs - threshold))


def importance(log_probs: jax.Array, perturbed: jax.Array) -> jax.Array:
    """Log weights of sequences drawn without replacement, which make sums over them unbiased.

        sum_y p(y) f(y) = E[ sum_{i <= k} w_i f(y_i) ],   w_i = p(y_i) / q(y_i)

    with q as in `inclusion`. The last of the hypotheses gives the threshold, and has no weight: ask for one hypothesis
    more than sequences are wanted. Self-normalised weights, `softmax` of these, have a bias and less variance.

    Args:
      log_probs: float `[..., k + 1]`, log p of each hypothesis of a prompt, best perturbed value first.
      perturbed: float `[..., k + 1]`, the values, as `Result.pool.scores` has them.

    Returns:
      `[..., k]`; -inf for hypotheses that do not exist.
    """
    kappa = jnp.asarray(perturbed)[..., -1:]
    log_probs = jnp.asarray(log_probs)[..., :-1]
    weights = log_probs - inclusion(log_probs, kappa)
    return jnp.where(jnp.asarray(perturbed)[..., :-1] > -jnp.inf, weights, -jnp.inf)


def inclusion_probabilities(probabilities: Any, count: int) -> np.ndarray:
    """The probability of each of N outcomes to be among k drawn without replacement, by enumeration.

        pi_i = sum over ordered draws (j_1, ..., j_k) with i of  prod_n p_{j_n} / (1 - p_{j_1} - ... - p_{j_{n-1}})

    Args:
      probabilities: float64 `[N]`, positive, of sum 1. Takes N! / (N - k)! steps on the host.
      count: k, 1 to N.

    Returns:
      float64 `[N]`, of sum k.

    Raises:
      ValueError: for a `count` outside of 1 to N.
    """
    law = np.asarray(probabilities, np.float64)
    if not 1 <= count <= len(law):
        raise ValueError(f"count must lie in [1, {len(law)}], got {count}")
    found = np.zeros(len(law))
    for drawn in itertools.permutations(range(len(law)), count):
        chance, left = 1.0, 1.0
        for outcome in drawn:
            chance *= law[outcome] / left
            left -= law[outcome]
        found[list(drawn)] += chance
    return found
