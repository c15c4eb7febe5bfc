"""How far the confidence in an answer is from the truth: what more samples mend, and what they do not.

Of an estimate c of the probability of an answer, whose truth is t (1 if it is correct, 0 if not):

    E[(c - t)^2]  =  (E[(c - t)^2] - (p - t)^2)  +  (p - t)^2
    error         =  estimation error            +  model error

where p is the model's own probability of the answer. Both are exact for n independent samples.

Legend: K different completions that lead to an answer; leading axes `[...]` are answers.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.search.selection.arrays import flags, reals, whole


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Errors:
    """The two parts of a mean squared error, whose sum it is.

    Attributes:
      estimation: `[...]`, vanishes as n grows.
      model: `[...]`, that of the model's own probability.
    """

    estimation: jax.Array
    model: jax.Array

    @property
    def total(self) -> jax.Array:
        """`[...]`, the mean squared error."""
        return self.estimation + self.model


def self_consistency_errors(probability: Any, correct: Any, n: Any) -> Errors:
    """Of the share of n samples that give an answer.

        estimation = p (1 - p) / n

    Args:
      probability: `[...]`, p, of the answer.
      correct: bool `[...]`.
      n: int `[]` or `[...]`, samples, at least 1.

    Returns:
      The errors; float64 for float64 probabilities.

    Raises:
      ValueError: for other types or shapes, or an n below 1.

    Source: Proposition 1 of 2502.00511.
    """
    p, truth, n = _given(probability, correct, n)
    return Errors(p * (1 - p) / n, (p - truth) ** 2)


def perplexity_errors(probability: Any, correct: Any, n: Any) -> Errors:
    """Of the probability of one completion, taken as 0 where it is not among n samples.

        estimation = (1 - p)^n p (2 t - p)

    It vanishes exponentially in n, but p is that of a single completion, whose model error is large.

    Args:
      probability: `[...]`, p, of the completion.
      correct: bool `[...]`.
      n: int `[]` or `[...]`, samples, at least 1.

    Returns:
      The errors.

    Raises:
      ValueError: for other types or shapes, or an n below 1.

    Source: Proposition 2 of 2502.00511.
    """
    p, truth, n = _given(probability, correct, n)
    return Errors(_missed(p, n) * p * (2 * truth - p), (p - truth) ** 2)


def perplexity_consistency_errors(completions: Any, correct: Any, n: Any) -> Errors:
    """Of the summed probability of the different completions with an answer that are among n samples.

    With q_i = (1 - p_i)^n, q_ij = (1 - p_i - p_j)^n and p = sum_i p_i the estimate c has

        E[c] = p - sum_i p_i q_i,   Var[c] = sum_ij p_i p_j (q_ij - q_i q_j),   q_ii = q_i
        estimation = Var[c] + (E[c] - t)^2 - (p - t)^2

    With one completion these are the errors of its perplexity.

    Args:
      completions: `[..., K]`, the probability of each completion that leads to the answer, 0 where there is none.
      correct: bool `[...]`.
      n: int `[]` or `[...]`, samples, at least 1.

    Returns:
      The errors. The paper bounds the estimation error for completions of equal probability; this is the error itself.

    Raises:
      ValueError: for other types or shapes, or an n below 1.

    Source: Theorem 3 of 2502.00511.
    """
    p = reals("completions", completions, 1)
    _, truth, n = _given(p.sum(-1), correct, n)
    one = _missed(p, n[..., None])
    pairs = jnp.clip(p[..., :, None] + p[..., None, :], 0, 1)
    both = jnp.where(
        jnp.eye(p.shape[-1], dtype=bool), one[..., None], _missed(pairs, n[..., None, None])
    )
    covariance = p[..., :, None] * p[..., None, :] * (both - one[..., :, None] * one[..., None, :])
    lost, whole_mass = (p * one).sum(-1), p.sum(-1)
    # (p - lost - t)^2 - (p - t)^2, without the difference of two large numbers.
    bias = lost * (lost - 2 * (whole_mass - truth))
    return Errors(covariance.sum((-2, -1)) + bias, (whole_mass - truth) ** 2)


def _given(probability: Any, correct: Any, n: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    p = reals("probability", probability)
    truth = flags("correct", correct, p.shape).astype(p.dtype)
    return p, truth, jnp.broadcast_to(whole("n", n, 0, 1), p.shape).astype(p.dtype)


def _missed(p: jax.Array, n: jax.Array) -> jax.Array:
    """(1 - p)^n."""
    return jnp.exp(n * jnp.log1p(-p))
