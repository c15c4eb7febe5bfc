"""Sequential against parallel: one long search, or the best of several short answers for the same tokens.

Legend: Q problems, N direct samples of each.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.search.selection.arrays import check_shape, flags, whole
from jaxdec.search.selection.pass_at_k import pass_at_k


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Matched:
    """Two ways to spend one budget.

    Attributes:
      samples: int32 `[]`, n, direct samples that cost no more than one search, at least 1.
      sequential: bool `[Q]`, whether the search found the answer.
      parallel: `[Q]`, the probability that one of n direct samples is right, unbiased.
      sequential_tokens: float32 `[]`, the mean cost of a search, in tokens.
      parallel_tokens: float32 `[]`, that of n direct samples.
      enough: bool `[]`, whether there were n samples to estimate from; else n is N, and the parallel side is undersold.
    """

    samples: jax.Array
    sequential: jax.Array
    parallel: jax.Array
    sequential_tokens: jax.Array
    parallel_tokens: jax.Array
    enough: jax.Array


def matched_samples(sequential_tokens: Any, direct_tokens: Any) -> jax.Array:
    """How many direct answers one search is worth: n = floor(T_seq / T_direct), at least 1.

    Args:
      sequential_tokens: int `[...]`, at least 0.
      direct_tokens: int `[...]`, at least 1.

    Returns:
      int32 `[...]`.

    Raises:
      ValueError: for other types or values out of these limits.
    """
    sequential = whole("sequential_tokens", sequential_tokens, 0, 0)
    return jnp.maximum(sequential // whole("direct_tokens", direct_tokens, 0, 1), 1)


def match_budgets(
    sequential: Any, sequential_tokens: Any, direct: Any, direct_tokens: Any
) -> Matched:
    """Compares one search a problem with as many direct samples as its tokens pay for.

    n = floor(mean T_seq / mean T_direct) over all problems, and each problem's parallel figure is pass@n, so that a
    verifier is assumed on both sides.

    Args:
      sequential: bool `[Q]`, whether each search was right.
      sequential_tokens: int `[Q]`, its length.
      direct: bool `[Q, N]`, whether each direct sample was right.
      direct_tokens: int `[Q, N]`, their lengths.

    Returns:
      Both sides of each problem.

    Raises:
      ValueError: for other types or shapes.

    Source: "To Backtrack or Not to Backtrack", whose comparison this is.
    """
    searched = whole("sequential_tokens", sequential_tokens, 1, 0)
    spent = whole("direct_tokens", direct_tokens, 2, 0)
    check_shape("sequential_tokens", searched, spent.shape[:-1])
    sequential = flags("sequential", sequential, searched.shape)
    direct = flags("direct", direct, spent.shape)
    one = searched.astype(jnp.float32).mean()
    other = spent.astype(jnp.float32).mean()
    wanted = jnp.maximum(jnp.floor(one / jnp.maximum(other, 1e-9)), 1)
    samples = jnp.minimum(wanted, spent.shape[-1]).astype(jnp.int32)
    return Matched(
        samples,
        sequential,
        pass_at_k(direct, samples),
        one,
        other * samples,
        wanted <= spent.shape[-1],
    )
