"""Voting: the answer that most samples give, or that most weight is behind.

Legend: N samples of a prompt; leading axes `[...]` are prompts.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.search.selection.arrays import at, check_shape, check_word, first, flags, reals, whole
from jaxdec.search.selection.canonical import same_answers

TIES = ("first", "log_prob", "shortest")
"""How a tie between answers is broken."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Vote:
    """What a vote says.

    Attributes:
      winner: int32 `[...]`, a sample that has the winning answer; -1 where no sample has any.
      answer: int32 `[...]`, the number of that answer; -1 likewise.
      totals: `[..., N]`, the weight behind the answer of each sample; 0 for samples without one.
    """

    winner: jax.Array
    answer: jax.Array
    totals: jax.Array


def vote(
    ids: Any,
    weights: Any = None,
    *,
    tie: str = "first",
    log_probs: Any = None,
    lengths: Any = None,
) -> Vote:
    """The answer with the most votes, or the most weight (self-consistency).

        total(a) = sum_i w_i 1[id_i = a],   answer = argmax_a total(a)

    A tie goes, by `tie`, to

    - "first": the answer that was seen first; its first sample is the winner;
    - "log_prob": the answer with the highest total probability, log sum_i exp(log_probs_i) over its samples; its most
      probable sample is the winner;
    - "shortest": the answer with the shortest sample, which is the winner,

    and what is still tied to the first sample. With weights of 1 and the last two rules the answer does not depend on
    the order of the samples as long as probabilities, or lengths, differ.

    Args:
      ids: int `[..., N]`, numbers of answers; those below 0 are no answers and have no vote.
      weights: `[..., N]`, at least 0 (NaN counts nothing): rewards, `exp(log_prob)`, a softmax; 1 each if not given.
      tie: one of "first", "log_prob", "shortest".
      log_probs: `[..., N]`, log-probabilities, for "log_prob".
      lengths: int `[..., N]`, tokens or steps, for "shortest".

    Returns:
      The vote.

    Raises:
      ValueError: for other types or shapes, a rule that there is not, or one whose figures are not given.

    Exactness: heuristic; N = 1 is the sample itself.
    Source: Wang et al., 2203.11171.
    """
    check_word("tie", tie, TIES)
    ids = whole("ids", ids, 1)
    weights = jnp.ones(ids.shape, jnp.float32) if weights is None else reals("weights", weights)
    check_shape("weights", weights, ids.shape)
    valid, same = ids >= 0, same_answers(ids)
    leader = jnp.argmax(same, -1)  # one sum for all samples of an answer, lest they differ in a bit
    shared = lambda totals: jnp.take_along_axis(totals, leader, -1)
    weights = jnp.where(weights > 0, weights, 0)
    totals = jnp.where(valid, shared(jnp.where(same, weights[..., None, :], 0).sum(-1)), 0)
    most = jnp.where(valid, totals, -1).max(-1, keepdims=True)
    tied = valid & (totals == most)
    if tie == "first":
        winner = first(tied)
    elif tie == "shortest":
        lengths = _needed("lengths", tie, lengths, whole, ids.shape)
        winner = first(tied & (lengths == _least(lengths, tied)))
    else:
        log_probs = _needed("log_probs", tie, log_probs, reals, ids.shape)
        log_probs = jnp.where(jnp.isnan(log_probs), -jnp.inf, log_probs)
        mass = shared(jax.nn.logsumexp(jnp.where(same, log_probs[..., None, :], -jnp.inf), axis=-1))
        tied &= mass == jnp.where(tied, mass, -jnp.inf).max(-1, keepdims=True)
        tied &= leader == at(leader, first(tied))[..., None]
        winner = first(
            tied & (log_probs == jnp.where(tied, log_probs, -jnp.inf).max(-1, keepdims=True))
        )
    return Vote(winner, jnp.where(winner >= 0, at(ids, winner), -1), totals)


def min_max(scores: Any, valid: Any = None) -> jax.Array:
    """Scores as weights of a vote: from 0 for the least to 1 for the highest; equal scores weigh 1 each.

        w_i = (s_i - min s) / (max s - min s)

    Args:
      scores: `[..., N]`; what is not finite weighs 0 and does not stretch the range.
      valid: bool `[..., N]`, which samples count; all if not given.

    Returns:
      `[..., N]` in [0, 1]; 0 for samples that do not count.

    Raises:
      ValueError: for other types or shapes.

    Source: the weighted vote of "Bag of Tricks for Inference-time Computation", 2502.07191.
    """
    scores = reals("scores", scores, 1)
    counts = flags("valid", valid, scores.shape) & jnp.isfinite(scores)
    low = jnp.where(counts, scores, jnp.inf).min(-1, keepdims=True)
    high = jnp.where(counts, scores, -jnp.inf).max(-1, keepdims=True)
    flat = ~(high > low)
    scaled = (scores - low) / jnp.where(flat, 1, high - low)
    return jnp.where(counts, jnp.where(flat, 1, scaled), 0).astype(scores.dtype)


def _least(values: jax.Array, among: jax.Array) -> jax.Array:
    most = jnp.iinfo(jnp.int32).max
    return jnp.where(among, values, most).min(-1, keepdims=True)


def _needed(name: str, tie: str, value: Any, kind: Any, shape: tuple[int, ...]) -> jax.Array:
    if value is None:
        raise ValueError(f"tie={tie!r} needs {name} [..., N], got None")
    array = kind(name, value)
    check_shape(name, array, shape)
    return array
