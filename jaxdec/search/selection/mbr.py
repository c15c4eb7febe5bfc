"""Minimum Bayes risk: the candidate that is most useful in view of the evidence.

Legend: M candidates, N pieces of evidence, W tokens of a text at most; leading axes `[...]` are prompts.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.search.selection.arrays import check_shape, flags, reals, whole
from jaxdec.search.selection.best_of_n import best_of_n


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Risk:
    """What minimum Bayes risk says.

    Attributes:
      winner: int32 `[...]`, the candidate of the highest value, the first of several; -1 where there is none.
      values: `[..., M]`, the mean utility of each candidate; NaN where it has no evidence or is no candidate.
    """

    winner: jax.Array
    values: jax.Array


def mbr(utility: Any, weights: Any = None, *, candidates: Any = None, own: bool = True) -> Risk:
    """The candidate whose mean utility over the evidence is the highest.

        value_i = sum_j w_j u(i, j) / sum_j w_j,   winner = argmax_i value_i

    With u = 1[answer_i = answer_j] this is the majority vote. Evidence may hold more than the candidates: where the
    first M of N columns are the candidates and the others texts of another language or pool, this is X-MBR.

    Args:
      utility: `[..., M, N]`, u(i, j) of candidate i if j were right; the first M columns are the candidates themselves.
      weights: `[..., N]`, of each piece of evidence, at least 0, 0 to leave it out; 1 each if not given.
      candidates: bool `[..., M]`, which may win; all if not given.
      own: whether a candidate counts as evidence for itself.

    Returns:
      Winner and values.

    Raises:
      ValueError: for other types or shapes.

    Exactness: heuristic; N = 1 is the sample itself.
    Source: Kumar and Byrne, 2004; over two pools: "When Life Gives You Samples", 2506.20544.
    """
    utility = reals("utility", utility, 2)
    *_, few, many = utility.shape
    shape = (*utility.shape[:-2], many)
    weights = jnp.ones(shape, utility.dtype) if weights is None else reals("weights", weights)
    check_shape("weights", weights, shape)
    candidates = flags("candidates", candidates, utility.shape[:-1])
    weights = jnp.where(weights > 0, weights, 0)[..., None, :]
    if not own:
        weights = jnp.where(jnp.eye(few, many, dtype=bool), 0, weights)
    total = jnp.broadcast_to(weights, utility.shape).sum(-1)
    gain = jnp.where(weights > 0, weights * utility, 0).sum(-1)
    values = jnp.where(candidates & (total > 0), gain / jnp.where(total > 0, total, 1), jnp.nan)
    return Risk(best_of_n(values, candidates), values)


def token_f1(rows: Any, lengths: Any, others: Any = None, other_lengths: Any = None) -> jax.Array:
    """A utility of texts: the F1 of their tokens, order aside.

        u(i, j) = 2 |i and j| / (|i| + |j|),   as multisets of tokens; 1 for two empty texts

    Args:
      rows: int `[..., M, W]`, padded.
      lengths: int `[..., M]`.
      others: int `[..., N, W']`, the evidence; the rows themselves if not given.
      other_lengths: int `[..., N]`.

    Returns:
      float32 `[..., M, N]`; M N W W' comparisons.

    Raises:
      ValueError: for other types or shapes.
    """
    rows, lengths = _texts("rows", rows, "lengths", lengths)
    if others is None:
        texts, sizes = rows, lengths
    else:
        texts, sizes = _texts("others", others, "other_lengths", other_lengths)
    place = jnp.arange(rows.shape[-1])
    there = place < lengths[..., None]
    earlier = (rows[..., :, None] == rows[..., None, :]) & (place[None, :] < place[:, None])
    number = earlier.sum(-1)  # [..., M, W]: how many times a token stood before
    known = jnp.arange(texts.shape[-1]) < sizes[..., None]
    equal = rows[..., :, None, :, None] == texts[..., None, :, None, :]
    count = (equal & known[..., None, :, None, :]).sum(-1)  # [..., M, N, W]
    shared = ((count > number[..., :, None, :]) & there[..., :, None, :]).sum(-1)
    both = lengths[..., :, None] + sizes[..., None, :]
    f1 = 2 * shared / jnp.maximum(both, 1).astype(jnp.float32)
    return jnp.where(both > 0, f1, 1).astype(jnp.float32)


def _texts(name: str, rows: Any, of: str, lengths: Any) -> tuple[jax.Array, jax.Array]:
    rows, lengths = whole(name, rows, 2), whole(of, lengths, 1, 0)
    check_shape(of, lengths, rows.shape[:-1])
    return rows, jnp.minimum(lengths, rows.shape[-1])
