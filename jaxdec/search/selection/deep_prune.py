"""DeepPrune: traces that a judge expects to end alike are cut, all but one.

Legend: N traces of a prompt, K clusters at most; leading axes `[...]` are prompts.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import check_type
from jaxdec.search.selection.arrays import flags, reals
from jaxdec.search.selection.canonical import firsts, same_answers


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Clusters:
    """Groups of traces.

    Attributes:
      ids: int32 `[..., N]`, the cluster of each trace, by age from 0 on; -1 for traces that take no part.
      survivors: bool `[..., N]`, the first trace of each cluster: those that go on.
      sizes: int32 `[..., N]`, traces in the cluster of each; 0 for those that take no part.
    """

    ids: jax.Array
    survivors: jax.Array
    sizes: jax.Array


def cluster(
    similarity: Any, threshold: Any = 0.5, *, most: int, members: int = 10, valid: Any = None
) -> Clusters:
    """Greedy clustering in the order of the traces, by what a judge says of pairs.

    Trace i joins the cluster whose mean similarity to it, over its first `members` traces, is the highest (the older
    one of several), if that is above the threshold or there are `most` clusters already; else it opens a new one.
    J(i, j) and J(j, i) are averaged. Weigh a vote of the survivors by `sizes` for a vote of all traces.

    Args:
      similarity: `[..., N, N]`, probabilities that two traces end with the same answer; NaN is 0.
      threshold: `[]` or `[...]`; at 1 nothing is pruned (with `most` >= N), below every similarity one trace is left.
      most: K, at least 1.
      members: traces of a cluster that are compared, at least 1.
      valid: bool `[..., N]`, which traces take part; all if not given.

    Returns:
      Clusters; at least one survivor where any trace takes part.

    Raises:
      ValueError: for other types or shapes, or sizes below 1.

    Exactness: heuristic; with nothing pruned, the vote of all traces.
    Source: 2510.08483, its algorithm as far as the abstract and excerpts tell it.
    """
    similarity, threshold = reals("similarity", similarity, 2), reals("threshold", threshold)
    if similarity.shape[-1] != similarity.shape[-2]:
        raise ValueError(f"similarity must have shape [..., N, N], got {list(similarity.shape)}")
    for name, size in (("most", most), ("members", members)):
        check_type(name, size, int)
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    valid = flags("valid", valid, similarity.shape[:-1])
    similarity = jnp.nan_to_num(similarity, nan=0.0)
    similarity = (similarity + jnp.swapaxes(similarity, -1, -2)) / 2
    clusters = min(most, similarity.shape[-1])
    one = functools.partial(_clusters, clusters=clusters, members=members)
    ids = jnp.vectorize(one, signature="(n,n),(),(n)->(n)")(similarity, threshold, valid)
    sizes = same_answers(ids).sum(-1).astype(jnp.int32)
    return Clusters(ids, firsts(ids), jnp.where(ids >= 0, sizes, 0))


def _clusters(
    similarity: jax.Array, threshold: jax.Array, valid: jax.Array, *, clusters: int, members: int
) -> jax.Array:
    """The cluster of each trace of one prompt, int32 `[N]`."""
    count = similarity.shape[-1]

    def join(held, trace):
        own, used, size = (
            held  # [K, N] members that are compared, how many clusters there are, traces in each
        )
        compared = jnp.minimum(size, members)
        means = jnp.where(own, similarity[trace], 0).sum(-1) / jnp.maximum(compared, 1)
        means = jnp.where(jnp.arange(clusters) < used, means, -jnp.inf)
        best = jnp.argmax(means).astype(jnp.int32)
        joins = (means[best] > threshold) | (used == clusters)
        chosen = jnp.where(joins, best, used)
        takes = valid[trace]
        own = own.at[chosen, trace].set(takes & (size[chosen] < members))
        size = size.at[chosen].add(takes.astype(jnp.int32))
        used = used + (takes & ~joins)
        return (own, used, size), jnp.where(takes, chosen, -1)

    start = jnp.zeros((clusters, count), bool), jnp.int32(0), jnp.zeros(clusters, jnp.int32)
    _, ids = jax.lax.scan(join, start, jnp.arange(count, dtype=jnp.int32))
    return ids


def chosen_rows(chosen: Any, size: int) -> tuple[jax.Array, jax.Array]:
    """The chosen samples in a row of fixed size, for a gather into a smaller batch.

    Args:
      chosen: bool `[..., N]`.
      size: R, places; what is chosen beyond them is left out.

    Returns:
      Indices int32 `[..., R]`, in order, 0 where there are no more; and which places are filled, bool `[..., R]`.

    Raises:
      ValueError: for another type, or a size out of [1, N].
    """
    chosen = flags("chosen", chosen, jnp.shape(chosen))
    check_type("size", size, int)
    if not 1 <= size <= chosen.shape[-1]:
        raise ValueError(f"size must lie in [1, {chosen.shape[-1]}], got {size}")
    index = jnp.argsort(~chosen, axis=-1, stable=True)[..., :size].astype(jnp.int32)
    there = jnp.arange(size) < chosen.sum(-1)[..., None]
    return jnp.where(there, index, 0), there
