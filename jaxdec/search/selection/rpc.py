"""RPC: votes by the probability of completions, without those that are improbable.

Legend: N samples of a prompt; leading axes `[...]` are prompts.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.search.selection.arrays import at, check_shape, first, flags, reals, whole
from jaxdec.search.selection.canonical import firsts, same_answers
from jaxdec.search.selection.weibull import STEPS, weibull_mixture

_FLAT = 1e-4
"""Standard deviation over mean of probabilities below which they are taken as equal: nothing to tell apart."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Confidence:
    """How sure one may be of each answer.

    Attributes:
      winner: int32 `[...]`, a sample that has the most certain answer; -1 where no sample has any.
      answer: int32 `[...]`, the number of that answer; -1 likewise.
      confidences: `[..., N]`, of the answer of each sample: answers sum to 1; 0 for samples without one.
      kept: bool `[..., N]`, the samples that were not pruned.
    """

    winner: jax.Array
    answer: jax.Array
    confidences: jax.Array
    kept: jax.Array


def perplexity_consistency(
    log_probs: Any, ids: Any, completions: Any = None, kept: Any = None
) -> Confidence:
    """The answer with the most probability behind it, each completion counted once.

        confidence(a) = sum of p_i over unique kept completions i with answer a, normalised over answers

    With all p equal and no two completions alike this is the majority vote.

    Args:
      log_probs: `[..., N]`, of each sample: the mean over its tokens, as RPC has it, or their sum, as its theory has.
      ids: int `[..., N]`, numbers of answers; those below 0 are no answers.
      completions: int `[..., N]`, numbers of whole texts (`answer_ids` of their rows); all different if not given.
      kept: bool `[..., N]`, which samples count; all if not given.

    Returns:
      Confidences; among answers of equal confidence the first one seen wins.

    Raises:
      ValueError: for other types or shapes.

    Exactness: heuristic.
    Source: "Bridging Internal Probability and Self-Consistency", 2502.00511, 2510.15444.
    """
    log_probs, ids = reals("log_probs", log_probs, 1), whole("ids", ids, 1)
    check_shape("ids", ids, log_probs.shape)
    kept = flags("kept", kept, ids.shape)
    counts = kept & (ids >= 0) & jnp.isfinite(log_probs)
    if completions is not None:
        completions = whole("completions", completions, 1)
        check_shape("completions", completions, ids.shape)
        # Texts are told apart among samples that count: the first of two equal ones may have been pruned.
        counts &= firsts(jnp.where(counts, completions, -1))
    high = jnp.where(counts, log_probs, -jnp.inf).max(-1, keepdims=True)
    mass = jnp.where(counts, jnp.exp(log_probs - jnp.where(jnp.isfinite(high), high, 0)), 0)
    same = same_answers(ids)
    behind = jnp.where(same, mass[..., None, :], 0).sum(-1)
    behind = jnp.take_along_axis(behind, jnp.argmax(same, -1), -1)
    total = mass.sum(-1, keepdims=True)
    confidences = jnp.where((ids >= 0) & (total > 0), behind / jnp.where(total > 0, total, 1), 0)
    best = confidences.max(-1, keepdims=True)
    winner = first(counts & (confidences == best))
    return Confidence(winner, jnp.where(winner >= 0, at(ids, winner), -1), confidences, kept)


def reasoning_pruning(log_probs: Any, valid: Any = None, steps: int = STEPS) -> jax.Array:
    """Which samples are probable enough to be heard.

    A mixture of two Weibull laws is fitted to p_i = exp(log_probs_i); component 0 has the larger mean. Sample i is
    pruned iff component 1 is the likelier of the two at p_i, and p_i < mean(p). Where all p agree to four digits, or
    the fit is no number, nothing is pruned.

    Args:
      log_probs: `[..., N]`, mean log-probabilities of tokens, so that p does not shrink with length. What is not finite
        is pruned.
      valid: bool `[..., N]`, which samples there are; all if not given.
      steps: of the fit.

    Returns:
      bool `[..., N]`; true for every sample with p >= mean(p), hence for one at least where any is there.

    Raises:
      ValueError: for other types or shapes, or no steps.

    Exactness: heuristic.
    Source: as `perplexity_consistency`.
    """
    log_probs = reals("log_probs", log_probs, 1)
    valid = flags("valid", valid, log_probs.shape) & jnp.isfinite(log_probs)
    p = jnp.where(valid, jnp.exp(jnp.where(valid, log_probs, 0)), 0)
    count = jnp.maximum(valid.sum(-1, keepdims=True), 1).astype(p.dtype)
    mean = p.sum(-1, keepdims=True) / count
    deviation = jnp.sqrt(jnp.where(valid, (p - mean) ** 2, 0).sum(-1, keepdims=True) / count)
    mixture = weibull_mixture(log_probs, valid, steps)
    parts = mixture.log_parts(jnp.where(valid, log_probs, 0))
    told_apart = (deviation > _FLAT * mean) & jnp.isfinite(mixture.loss)[..., None]
    improbable = (parts[..., 0] < parts[..., 1]) & (p < mean)
    # The mean of nearly equal numbers may be rounded above them all.
    highest = p >= jnp.where(valid, p, 0).max(-1, keepdims=True)
    return valid & (highest | ~(told_apart & improbable))


def rpc(
    log_probs: Any, ids: Any, completions: Any = None, valid: Any = None, steps: int = STEPS
) -> Confidence:
    """Perplexity consistency after reasoning pruning.

    Args:
      log_probs: `[..., N]`, the mean log-probability of each sample's tokens under the law that they were drawn from.
      ids: int `[..., N]`, numbers of answers; samples below 0 take part in the fit, but have no vote.
      completions: int `[..., N]`, numbers of whole texts; all different if not given.
      valid: bool `[..., N]`, which samples there are; all if not given.
      steps: of the fit.

    Returns:
      Confidences. If no kept sample has an answer, those of all samples decide.

    Raises:
      ValueError: for other types or shapes, or no steps.

    Exactness: heuristic; with all p equal and no two completions alike, the majority vote.
    Source: "Bridging Internal Probability and Self-Consistency", 2502.00511, 2510.15444.
    """
    log_probs, ids = reals("log_probs", log_probs, 1), whole("ids", ids, 1)
    check_shape("ids", ids, log_probs.shape)
    valid = flags("valid", valid, ids.shape)
    kept = reasoning_pruning(log_probs, valid, steps)
    heard = (kept & (ids >= 0)).any(-1, keepdims=True)
    found = perplexity_consistency(log_probs, ids, completions, jnp.where(heard, kept, valid))
    return dataclasses.replace(found, kept=kept)


def mean_log_probs(log_probs: Any, prompt_lengths: Any, lengths: Any) -> jax.Array:
    """The mean log-probability of each row's new tokens, as `generate` reports them.

    Args:
      log_probs: `[..., L]`, of each token; `Result.log_probs` or `raw_log_probs`.
      prompt_lengths: int `[...]`.
      lengths: int `[...]`, the prompt's tokens included.

    Returns:
      `[...]`; -inf for rows without a new token.

    Raises:
      ValueError: for other types or shapes.
    """
    log_probs = reals("log_probs", log_probs, 1)
    start, stop = whole("prompt_lengths", prompt_lengths), whole("lengths", lengths)
    check_shape("prompt_lengths", start, log_probs.shape[:-1])
    check_shape("lengths", stop, log_probs.shape[:-1])
    place = jnp.arange(log_probs.shape[-1])
    new = (place >= start[..., None]) & (place < stop[..., None])
    count = new.sum(-1)
    total = jnp.where(new, log_probs, 0).sum(-1)
    return jnp.where(count > 0, total / jnp.maximum(count, 1).astype(total.dtype), -jnp.inf)
