"""Best of n: the sample with the highest score, softly or not, and the law of what wins.

Legend: N samples of a prompt, S steps of a sample, K outcomes of a law; leading axes `[...]` are prompts.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.sampling import gumbel, is_traced, perturbed_argmax
from jaxdec.search.selection.arrays import check_shape, check_word, first, flags, reals, whole

SUMMARIES = ("last", "min", "product", "mean")
"""How scores of steps become one."""


def best_of_n(scores: Any, valid: Any = None) -> jax.Array:
    """The sample with the highest score, the first of several.

    Args:
      scores: `[..., N]`; NaN never wins.
      valid: bool `[..., N]`, which samples take part; all if not given.

    Returns:
      int32 `[...]`, its index; -1 where no sample takes part.

    Raises:
      ValueError: for other types or shapes.

    Exactness: heuristic; what wins has the law that `win_law` gives.
    """
    scores = reals("scores", scores, 1)
    counts = flags("valid", valid, scores.shape) & ~jnp.isnan(scores)
    best = jnp.where(counts, scores, -jnp.inf).max(-1, keepdims=True)
    return first(counts & (scores == best))


def soft_best_of_n(keys: jax.Array, scores: Any, beta: Any, valid: Any = None) -> jax.Array:
    """A sample drawn by its score: near the model's own law for small `beta`, the best of n for large ones.

        P(i) = exp(beta s_i) / sum_j exp(beta s_j)

    Args:
      keys: random keys `[...]`, one a prompt.
      scores: `[..., N]`; samples whose score is NaN or -inf are never drawn.
      beta: `[]` or `[...]`, at least 0, in units of one over the score.
      valid: bool `[..., N]`, which samples take part; all if not given.

    Returns:
      int32 `[...]`, an index; -1 where no sample takes part.

    Raises:
      ValueError: for other types or shapes, or a `beta` below 0.

    Exactness: of the N samples exactly that law, in float32.
    """
    scores, beta = reals("scores", scores, 1), reals("beta", beta)
    if not is_traced(beta) and not (beta >= 0).all():
        raise ValueError(f"beta must be at least 0, got {beta.min()}")
    counts = flags("valid", valid, scores.shape) & (scores > -jnp.inf)
    check_shape("keys", keys, scores.shape[:-1])
    beta = jnp.broadcast_to(beta, scores.shape[:-1])[..., None]
    high = jnp.where(counts, scores, -jnp.inf).max(-1, keepdims=True)
    behind = jnp.where(scores == high, 0, scores - high)  # infinity less itself is none
    law = jnp.where(counts, jnp.where(beta > 0, beta * behind, 0), -jnp.inf)
    drawn = perturbed_argmax(law.astype(jnp.float32), gumbel(keys, scores.shape[-1]))
    return jnp.where(counts.any(-1), drawn, -1)


def win_law(probabilities: Any, scores: Any, n: Any) -> jax.Array:
    """The exact law of the best of n independent samples.

    With F the distribution of the score of one sample, m(s) the probability of a score and F(s-) = F(s) - m(s),

        P(x wins) = p(x) (F(s_x)^n - F(s_x-)^n) / m(s_x)

    The first of several best samples wins, which is as likely to be any of them: hence the share p(x) / m(s_x).

    Args:
      probabilities: `[..., K]`, p, of every outcome of one sample, summing to 1.
      scores: `[..., K]`, of each outcome.
      n: int `[]` or `[...]`, samples, at least 1.

    Returns:
      `[..., K]`, summing to 1: float64 for float64 laws.

    Raises:
      ValueError: for other types or shapes, or an n below 1.

    Exactness: exact; relative to each probability, also where F(s)^n and F(s-)^n agree in nearly all digits.
    """
    p, scores = reals("probabilities", probabilities, 1), reals("scores", scores, 1)
    check_shape("scores", scores, p.shape)
    n = jnp.broadcast_to(whole("n", n, 0, 1), p.shape[:-1])[..., None].astype(p.dtype)
    below = scores[..., None, :] <= scores[..., :, None]
    equal = scores[..., None, :] == scores[..., :, None]
    mass = lambda which: jnp.where(which, p[..., None, :], 0).sum(-1)
    upto, tied = mass(below), mass(equal)
    # (F^n - (F - m)^n) / m = F^(n-1) (1 - r^n) / (1 - r),  r = 1 - m / F
    share = jnp.where(upto > 0, tied / jnp.where(upto > 0, upto, 1), 1)
    share = jnp.clip(share, 0, 1)
    lost = -jnp.expm1(n * jnp.log1p(-share)) / jnp.where(share > 0, share, 1)
    factor = jnp.where(share > 0, lost, n) * upto ** (n - 1)
    return jnp.where(p > 0, p * factor, 0)


def of_steps(scores: Any, count: Any, how: str = "last") -> jax.Array:
    """One score of the scores of a sample's steps, such as those of a process reward: winners differ by the rule.

    Args:
      scores: `[..., S]`.
      count: int `[...]`, steps of each sample; what stands behind is not read.
      how: "last", "min", "product" or "mean".

    Returns:
      `[...]`; NaN for samples of no step, which never win.

    Raises:
      ValueError: for other types or shapes, or a rule that there is not.
    """
    check_word("how", how, SUMMARIES)
    scores, count = reals("scores", scores, 1), whole("count", count, 0, 0)
    check_shape("count", count, scores.shape[:-1])
    count = jnp.minimum(count, scores.shape[-1])
    there = jnp.arange(scores.shape[-1]) < count[..., None]
    if how == "last":
        found = jnp.take_along_axis(scores, jnp.maximum(count - 1, 0)[..., None], -1)[..., 0]
    elif how == "min":
        found = jnp.where(there, scores, jnp.inf).min(-1)
    elif how == "product":
        found = jnp.where(there, scores, 1).prod(-1)
    else:
        found = jnp.where(there, scores, 0).sum(-1) / jnp.maximum(count, 1).astype(scores.dtype)
    return jnp.where(count > 0, found, jnp.nan)
