"""Drafts by queries that the verification before them answered: one forward a step.

Legend: B rows, N nodes, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.any_subset.drafters.any_subset_drafter import AnySubsetDrafter, checked_width
from jaxdec.any_subset.drafters.independent_positions import RATES, rank_tree_drafts
from jaxdec.arguments import typed
from jaxdec.decoding import TARGET, Request, Rows
from jaxdec.model import Inputs, Model, Output, Params, Queries
from jaxdec.speculative import Context, DraftTree, RankTree, StepResult


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Answers:
    """What the last forward of the target said of the next ranks.

    Attributes:
      logits: float32 `[B, K, V]`, of ranks `length`, `length + 1`, ...
      ready: int32 `[B]`, how many of them there are.
    """

    logits: jax.Array
    ready: jax.Array


@dataclasses.dataclass(frozen=True)
class FusedDrafter(AnySubsetDrafter):
    """Drafts with the answers to queries of the last verification; see `fused_draft`.

    Attributes:
      vocab_size: V.
      depth: K.
      shape: of the trees; N nodes.
      ends: the scored tokens at which a path may end and whose next window is asked about; 0 is the pending one.
    """

    vocab_size: int
    depth: int
    shape: RankTree
    ends: tuple[int, ...]
    name: str = TARGET

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.shape.parents)

    @property
    def query_count(self) -> int:
        """R = O K."""
        return len(self.ends) * self.depth

    def init(self, params: Params, request: Request, output: Output) -> Answers:
        """Nothing is known before the first forward."""
        batch = request.prompt.shape[0]
        shape = (batch, self.depth, self.vocab_size)
        return Answers(jnp.zeros(shape, jnp.float32), jnp.zeros((batch,), jnp.int32))

    def propose(self, params: Params, state: Answers, context: Context) -> tuple[DraftTree, None]:
        """Draws independently from the laws at hand, and puts runners-up beside the draws."""
        rows = context.rows
        ranks = rows.length[:, None] + jnp.arange(self.depth)
        law = context.settings.warp.log_probs(state.logits, rows.history.at(ranks))
        available = jnp.minimum(state.ready, context.remaining)
        noise = context.settings.warp.settled(law, context.noise[:, : self.depth])
        return rank_tree_drafts(self.shape, state.logits, law, noise, available), None

    def _accepted(self) -> np.ndarray:
        """Drafts on the path to each scored token, `[N + 1]`."""
        return np.array([0, *self.shape.depths])

    def queries(self, params: Params, context: Context, inputs: Inputs) -> Queries:
        """For each end of a drafts: K queries from rank n + a + 1 on, which cannot see the token at n + a."""
        order = context.rows.order
        assert order is not None
        batch = inputs.tokens.shape[0]
        ends = np.array(self.ends)
        ranks = self._accepted()[ends][:, None] + 1 + np.arange(self.depth)
        ranks = context.rows.length[:, None] + ranks.reshape(-1)
        query_spans = jnp.repeat(inputs.query_spans[:, ends], self.depth, axis=1)
        return order.ask(ranks, query_spans.reshape(batch, -1, 2))

    def update(self, params: Params, state: Answers, rows: Rows, result: StepResult) -> Answers:
        """Keeps the answers for the path that came true, or for the longest part of it that was asked about."""
        assert result.answers is not None
        accepted, covered = self._accepted(), np.zeros(self.nodes + 1, np.int32)
        for token in range(self.nodes + 1):  # parents first
            above = self.shape.parents[token - 1] + 1 if token else 0
            covered[token] = self.ends.index(token) if token in self.ends else covered[above]
        passed = accepted - accepted[np.array(self.ends)[covered]]

        count = result.verdict.count
        last = jnp.take_along_axis(result.verdict.path, count[:, None], axis=1)[:, 0]
        beyond = jnp.asarray(passed)[last]
        ahead = jnp.minimum(beyond[:, None] + jnp.arange(self.depth), self.depth - 1)
        at = jnp.asarray(covered)[last][:, None] * self.depth + ahead
        logits = jnp.take_along_axis(result.answers, at[..., None], axis=1)
        return Answers(logits, jnp.maximum(self.depth - beyond, 0).astype(jnp.int32))


@typed
def fused_draft(
    model: Model, *, width: int = 4, nodes: int | None = None, outcomes: int | None = None
) -> FusedDrafter:
    """Drafts that cost no forward: the verification of one window also answers queries for the next one.

    While the target scores K drafts from rank n on, it is also asked, for each number a of drafts that may be accepted,

        p(x_{n+a+1+j} | x_{<n}, d_0, ..., d_{a-1}),   j = 0, ..., K - 1:

    the window that follows if a drafts stand and the token at n + a is the target's own, which no query can see yet.
    The first step has no draft; each step commits at least one token with one forward.

    Args:
      model: the target, for its vocabulary.
      width: K, at least 2.
      nodes: N >= K, drafts in all: a tree with the runners-up of each position where they are likeliest to serve
        (`RankTree.best`). The chain of K if not given.
      outcomes: O <= N + 1, the likeliest ends of a path, whose next window is asked about; O K more rows a forward.
        Where another end comes true the answers for the longest part of its path are used, less what they passed.
        All N + 1 if not given.

    Raises:
      ValueError: if `width < 2`, no tree of depth K has so many nodes, or `outcomes` is not in 1, ..., N + 1.

    Exactness: that of the verifier.
    Source: ours; the idea extends 2504.20456.
    """
    width = checked_width(width)
    shape = RankTree.best(width, width if nodes is None else nodes, RATES)
    most = len(shape.parents) + 1
    outcomes = most if outcomes is None else outcomes
    if not 1 <= outcomes <= most:
        raise ValueError(f"outcomes must lie in 1 to {most}, got {outcomes}")
    likeliest = 1 + np.argsort(-shape.stops[1:], kind="stable")[: outcomes - 1]
    return FusedDrafter(model.vocab_size, width, shape, (0, *sorted(likeliest.tolist())))
