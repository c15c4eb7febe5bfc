"""SuffixDecoding: drafting by counts of what followed the end of the text, in the text and in earlier ones.

Legend: B rows, M tokens of a text, L match lengths, K occurrences, D depth, N nodes.
"""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdec.arguments import typed
from jaxdec.decoding import Request
from jaxdec.model import Params
from jaxdec.speculative.contract import Context
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.drafters.prompt_lookup import suffix_matches
from jaxdec.speculative.tree import DraftTree, check_sizes, keep_best

BETWEEN = -1
"""Stands between two texts of a history: no token, so that nothing reaches across."""


def history_of(texts: Iterable[ArrayLike]) -> jax.Array:
    """Texts of token ids, each of any shape, as one history: int32 `[M]`, a mark behind each."""
    parts = [np.append(np.asarray(text).reshape(-1), BETWEEN) for text in texts]
    return jnp.asarray(np.concatenate(parts) if parts else [BETWEEN], jnp.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Counted:
    """What followed the end of a row in one text, after the best length of matches.

    Attributes:
      score: float32 scalar, the sum of the shares of the nodes that it would draft.
      budget: int32 scalar, how many these are at most.
      shares: float32 `[D, K]`, of each node; 0 for none.
      tokens: int32 `[D, K]`.
      first: int32 `[D, K]`, the occurrence that a node of these tokens so far is counted under.
    """

    score: jax.Array
    budget: jax.Array
    shares: jax.Array
    tokens: jax.Array
    first: jax.Array

    def tree(self, nodes: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`(tokens, parents, mask)`, `[N]` each: the nodes of the largest shares, parents first."""
        depth, width = self.shares.shape
        above = jnp.pad(self.first[:-1], ((1, 0), (0, 0)))  # a node is [depth, occurrence]
        above = above + (jnp.arange(depth, dtype=jnp.int32)[:, None] - 1) * width
        flat = lambda x: x.reshape(-1)
        tokens, parents, mask = keep_best(flat(self.shares), flat(self.tokens), flat(above), nodes)
        mask &= jnp.arange(nodes) < self.budget
        return tokens, jnp.where(mask, parents, -1), mask


@dataclasses.dataclass(frozen=True)
class SuffixDecoding(CausalDrafter):
    """See `suffix_decoding`."""

    depth: int
    budget: int
    longest: int
    occurrences: int
    factor: float
    least: float
    name: str = ""

    @property
    def nodes(self) -> int:
        """N."""
        return self.budget

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a request with an order, or a history that is none."""
        super().check(request, params)
        if not self.name:
            return
        text = self.own(params)
        if not isinstance(text, jax.Array | np.ndarray) or text.ndim != 1 or not text.size:
            raise ValueError(
                f"{self.name!r} must be a history, int32 [M], such as history_of(texts); got {type(text).__name__}"
            )

    def counted(
        self, tokens: jax.Array, length: jax.Array, text: jax.Array, end: jax.Array | int
    ) -> Counted:
        """Counts what followed the last tokens of a row `[M]` in the first `end` tokens of a text."""
        size, sizes = text.shape[0], jnp.arange(1, self.longest + 1)
        places = jnp.arange(size, dtype=jnp.int32)
        run = jnp.where(places < end, suffix_matches(tokens, length, self.longest, text), 0)
        total = (run[:, None] >= sizes).sum(0)  # [L], with the row's own end
        goes_on = (run > 0) & (places < end - 1)
        ranked = jnp.where(goes_on, run * size + places, -1)
        best, at = jax.lax.top_k(ranked, min(self.occurrences, size))
        ahead = at[:, None] + 1 + jnp.arange(self.depth)
        chains = text.at[ahead].get(mode="fill", fill_value=BETWEEN)
        there = (best >= 0)[:, None] & (ahead < end) & (chains != BETWEEN)
        there = jnp.cumprod(there.astype(jnp.int32), axis=1)
        same = (chains[:, None] == chains) & (there[:, None] & there > 0)
        shared = jnp.cumprod(same.astype(jnp.float32), axis=-1)  # [K, K, D]: equal up to there
        first = jnp.argmax(shared, axis=1).astype(jnp.int32)
        live = ((best >= 0) & (run[at] >= sizes[:, None])).astype(jnp.float32)  # [L, K]
        counts = jnp.einsum("lj,kjd->ldk", live, shared)
        own = (first == jnp.arange(len(at))[:, None]) & (
            there > 0
        )  # the longest match speaks for all
        shares = counts / jnp.maximum(total, 1)[:, None, None]
        shares = jnp.where(own.T & (live > 0)[:, None] & (shares >= self.least), shares, 0)
        budgets = jnp.floor(self.factor * sizes).astype(jnp.int32)
        budgets = jnp.minimum(budgets, self.budget)
        flat = shares.reshape(self.longest, -1)
        top = jax.lax.top_k(flat, min(self.budget, flat.shape[1]))[0]
        score = jnp.where(jnp.arange(top.shape[1]) < budgets[:, None], top, 0).sum(1)
        chosen = self.longest - 1 - jnp.argmax(score[::-1])  # of equals the longest
        return Counted(score[chosen], budgets[chosen], shares[chosen], chains.T, first.T)

    def propose(self, params: Params, state: None, context: Context) -> tuple[DraftTree, None]:
        """Counts in each row and in the history; the tree is of the text whose score is higher."""
        rows = context.rows

        def draft(tokens, length):
            best = self.counted(tokens, length, tokens, length)
            if self.name:
                history = jnp.asarray(params, jnp.int32)
                other = self.counted(tokens, length, history, history.shape[0])
                width = max(best.shares.shape[1], other.shares.shape[1])
                fill = lambda x: jnp.pad(x, ((0, 0), (0, width - x.shape[1]))) if x.ndim else x
                best, other = (jax.tree.map(fill, counted) for counted in (best, other))
                keep = best.score >= other.score
                best = jax.tree.map(lambda own, far: jnp.where(keep, own, far), best, other)
            return best.tree(self.budget)

        tokens, parents, mask = jax.vmap(draft)(rows.tokens, rows.length)
        return DraftTree(tokens, parents, mask, None, depth=self.depth), None


@typed
def suffix_decoding(
    *,
    length: int = 16,
    nodes: int = 32,
    longest: int = 32,
    occurrences: int = 32,
    factor: float = 1.0,
    least: float = 0.1,
    name: str = "",
) -> SuffixDecoding:
    """Drafts the continuations that followed the end of the text most often, here and in earlier texts.

    Let n(s) count the occurrences of s in a text. For every m, the last m tokens w being found there, a continuation x
    has the share

        n(w x) / n(w),   at least `least`,

    and the tree of m holds the `factor m` largest shares, at most N. The m of the largest sum of shares is taken, the
    longest of equals; of the row and the history the one of the larger sum, the row of equals. So drafts are long where
    a long match speaks for them.

    The history, `params[name]`, is what `history_of` makes of earlier outputs, the same for all rows and fixed for a
    run, so that no row depends on another. Without a name the row alone is read: prompt and output.

    Args:
      length: D, the longest path, at least 1.
      nodes: N, at least 1.
      longest: L, the longest match that is looked for.
      occurrences: K, those of a text that are read, the longest matches first, then the latest. With fewer in the text
        counts are exact; else those of short matches are too low.
      factor: nodes for each token of a match, above 0.
      least: the share from which a continuation is drafted, in [0, 1].
      name: of the history in the `params` of `generate`; none if empty.

    Raises:
      ValueError: for sizes below 1, a factor that is not above 0, a share out of [0, 1]; where the request is, for a
        history that is none.

    Exactness: that of the verifier.
    Source: SuffixDecoding, 2411.04975, its trees of the request and of earlier outputs. Counts are those of its suffix
    trees; here they are found by comparing tokens, `M L + K^2 D L` of them a step and row, with no tree to keep. The
    choice between it and a draft model by its score is left out.
    """
    check_sizes(length=length, nodes=nodes, longest=longest, occurrences=occurrences)
    if not factor > 0:
        raise ValueError(f"factor must be above 0, got {factor}")
    if not 0 <= least <= 1:
        raise ValueError(f"least must lie in [0, 1], got {least}")
    return SuffixDecoding(length, nodes, longest, occurrences, float(factor), float(least), name)
