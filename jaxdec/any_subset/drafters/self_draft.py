"""Self-drafting: the target's own answers, as if the tokens were independent.

Legend: B rows, K drafts, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.any_subset.drafters.any_subset_drafter import AnySubsetDrafter, checked_width
from jaxdec.any_subset.drafters.independent_positions import RATES, rank_tree_drafts
from jaxdec.arguments import typed
from jaxdec.decoding import TARGET
from jaxdec.model import Inputs, Model, Params
from jaxdec.speculative import Context, DraftTree, RankTree


@dataclasses.dataclass(frozen=True)
class SelfDrafter(AnySubsetDrafter):
    """Asks the target for K tokens at once, each given the committed tokens alone; see `self_draft`."""

    model: Model
    depth: int
    shape: RankTree
    name: str = TARGET

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.model.vocab_size

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.shape.parents)

    @property
    def target_forwards(self) -> int:
        """One."""
        return 1

    def target_rows(self, size: jax.Array | None) -> int | jax.Array:
        """Those of the pending token and K queries."""
        return self.model.scored_rows(1, self.depth, size)

    @property
    def target_drawn(self) -> int:
        """The first draft has the target's own law."""
        return 1

    def propose(self, params: Params, state: Any, context: Context) -> tuple[DraftTree, None]:
        """Draws K tokens independently, and puts runners-up beside them."""
        rows, order = context.rows, context.rows.order
        assert order is not None
        ranks = rows.length[:, None] + jnp.arange(self.depth)
        pending = Inputs.causal(rows.pending[:, None], rows.length - 1)
        query_spans = jnp.broadcast_to(pending.query_spans, (*ranks.shape, 2))
        inputs = dataclasses.replace(
            pending, positions=order.at(pending.positions), queries=order.ask(ranks, query_spans)
        )
        logits = self.model(params, inputs, context.cache).logits
        law = context.settings.warp.log_probs(logits, rows.history.at(ranks))
        # The first draft stands as it is: it must be the target's own draw.
        noise = context.settings.warp.settled(law, context.noise[:, : self.depth])
        first = logits[:, :1]
        return rank_tree_drafts(
            self.shape, logits, law, noise, context.remaining, target_logits=first
        ), None


@typed
def self_draft(model: Model, *, width: int = 6, nodes: int | None = None) -> SelfDrafter:
    """The target drafts for itself: K tokens from one forward, each given the committed tokens alone.

        d_j ~ p(x_{n+j} | x_{<n}),   j = 0, ..., K - 1

    d_0 has the target's own law and is accepted as it stands, so a step gives at least two tokens for two forwards; a
    row that lacks one token only takes one forward. So forwards never exceed tokens in a row that ends by its length;
    where d_0 completes a stop, the other token is cut off and there is one forward more.

    Args:
      model: the target; answers queries.
      width: K, at least 2.
      nodes: N >= K, drafts in all: a tree with the runners-up of each position where they are likeliest to serve
        (`RankTree.best`). The chain of K if not given.

    Raises:
      ValueError: if `width < 2`, or no tree of depth K has so many nodes.

    Exactness: that of the verifier.
    Source: 2504.20456. Here the committed prefix is cached, so a draft scores K + 1 rows; the tree is ours.
    """
    width = checked_width(width)
    nodes = width if nodes is None else nodes
    return SelfDrafter(model, width, RankTree.best(width, nodes, RATES, first_certain=True))
