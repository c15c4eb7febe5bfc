"""Prompt lookup with several continuations at once, merged into one tree.

Legend: B rows, L buffer width, G continuations, D depth, N nodes.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model import Params
from jaxdec.speculative.contract import Context
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.drafters.prompt_lookup import (
    check_ngrams,
    find_continuations,
    read_on,
)
from jaxdec.speculative.tree import DraftTree, check_sizes


def merge_chains(
    chains: jax.Array, mask: jax.Array, nodes: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Merges chains of one row into a tree: what they share from the start on stands in it once.

    At most `nodes` nodes are kept: those of the least depth plus chain, so that earlier chains reach further.

    Args:
      chains: int32 `[G, D]`.
      mask: bool `[G, D]`, a prefix of each chain: the tokens that exist.
      nodes: N.

    Returns:
      `(tokens, parents, mask)`, `[N]` each, of a tree; see `DraftTree`.
    """
    chain, depth = jnp.indices(chains.shape)
    both = (chains[:, None] == chains) & mask[:, None] & mask
    shared = jnp.cumprod(both.astype(jnp.int32), axis=-1)  # [G, G, D]: equal up to there
    first = jnp.argmax(shared, axis=1)  # the earliest chain that has the same prefix
    real = mask & (first == chain)
    width = len(chains)
    slot = first * chains.shape[1] + depth
    above = jnp.pad(slot[:, :-1], ((0, 0), (1, 0)), constant_values=-1).reshape(-1)
    cost = (depth + chain) * width + chain  # a parent costs less than its children
    order = jnp.argsort(jnp.where(real, cost, jnp.iinfo(jnp.int32).max).reshape(-1), stable=True)
    place = (
        jnp.zeros(chains.size, jnp.int32).at[order].set(jnp.arange(chains.size, dtype=jnp.int32))
    )
    kept = jnp.pad(order, (0, max(nodes - chains.size, 0)))[:nodes]
    exists = real.reshape(-1)[kept] & (jnp.arange(nodes) < chains.size)
    parents = jnp.where(above[kept] < 0, -1, place[above[kept]])
    return chains.reshape(-1)[kept], jnp.where(exists, parents, -1), exists


@dataclasses.dataclass(frozen=True)
class LookupTree(CausalDrafter):
    """Proposes what followed several earlier occurrences of the row's last tokens; see `lookup_tree`."""

    depth: int
    budget: int
    matches: int
    max_ngram: int
    min_ngram: int

    @property
    def nodes(self) -> int:
        """N."""
        return self.budget

    def propose(self, params: Params, state: None, context: Context) -> tuple[DraftTree, None]:
        """Looks up each row; a row without a match proposes nothing."""
        rows = context.rows

        def draft(tokens, length):
            starts, found = find_continuations(
                tokens, length, self.max_ngram, self.min_ngram, self.matches
            )
            chains = read_on(tokens, length, starts, self.depth)
            mask = jnp.broadcast_to(found[:, None], chains.shape)
            return merge_chains(chains, mask, self.budget)

        tokens, parents, mask = jax.vmap(draft)(rows.tokens, rows.length)
        return DraftTree(tokens, parents, mask, None, depth=self.depth), None


@typed
def lookup_tree(
    *,
    length: int = 16,
    nodes: int = 64,
    matches: int = 16,
    max_ngram: int = 5,
    min_ngram: int = 1,
) -> LookupTree:
    """Drafts by n-gram lookup as `prompt_lookup` does, with the continuations of several matches merged into a tree.

    Args:
      length: D, the longest path, at least 1.
      nodes: N, at least 1; see `merge_chains` for those that are kept.
      matches: G, occurrences that are followed, longest matches first, then the most recent.
      max_ngram: the longest suffix that is looked up.
      min_ngram: the shortest suffix that counts as a match.

    Raises:
      ValueError: for sizes below 1, or if not `1 <= min_ngram <= max_ngram`.

    Exactness: that of the verifier.
    Source: ours, after prompt lookup decoding (Saxena, 2023) and the merged trees of 2305.09781.
    """
    check_sizes(length=length, nodes=nodes, matches=matches)
    check_ngrams(max_ngram, min_ngram)
    return LookupTree(length, nodes, matches, max_ngram, min_ngram)
