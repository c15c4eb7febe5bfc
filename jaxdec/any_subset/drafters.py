"""Drafters for any-subset decoding: the target itself, the row's own bigrams, and queries that ride along.

All propose chains in rank order, through the contract of `jaxdec.speculative`.

Legend: B rows, K drafts a step, O outcomes that are drafted for, C capacity, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import Request, target_params
from jaxdec.model import Inputs, Model, Output, Params, Queries
from jaxdec.sampling import Warp, perturbed_argmax
from jaxdec.speculative import Committed, Context, Drafter, DraftTree, RankTree


class _InOrder(Drafter):
    """A drafter that needs an order of generation."""

    def check(self, request: Request, params: Params, vocab_size: int) -> None:
        """Raises `ValueError` for a causal request."""
        if request.order is None:
            raise ValueError(
                f"{type(self).__name__} drafts for an any-subset request; use jaxdec.infill"
            )


def _checked_width(width: int) -> int:
    if width < 2:
        raise ValueError(
            f"width must be at least 2, got {width}: with less, a draft costs more than it gives"
        )
    return width


def _upcoming(context: Context, count: int) -> tuple[jax.Array, jax.Array]:
    """Ranks `[B, count]` of the next tokens, and which of them the row still has to emit."""
    ahead = jnp.arange(count)
    return context.rows.length[:, None] + ahead, ahead < context.remaining[:, None]


RATES = (0.6, 0.16, 0.06, 0.03)
"""How often a position drafted alone turns out to hold its best, second best, ... token, about, on held-out Python."""


def _drafts(
    shape: RankTree,
    depth: int,
    logits: jax.Array,
    law: jax.Array,
    noise: jax.Array,
    available: jax.Array,
    known: jax.Array | None = None,
) -> DraftTree:
    """Trees of a fixed shape from laws of K positions that do not depend on one another.

    Args:
      shape: of the trees; N nodes.
      depth: K.
      logits: float32 `[B, K, V]`.
      law: float32 `[B, K, V]`, warped.
      noise: float32 `[B, K, V]`.
      available: int32 `[B]`, how many of the K positions are drafted.
      known: of the tree.
    """
    batch = law.shape[0]
    depths = jnp.asarray(shape.depths)
    mask = depths <= available[:, None]
    if len(shape.parents) == depth:  # a chain states the laws it was drawn from
        return DraftTree.chain(perturbed_argmax(law, noise), mask, law, known)
    # Tokens without mass come last, by the model's own preference: at temperature 0 that decides.
    scores = jnp.where(law > -jnp.inf, law + noise, logits - 1e4)
    _, best = jax.lax.top_k(scores, max(shape.ranks) + 1)  # [B, K, R]
    parents = jnp.broadcast_to(jnp.asarray(shape.parents), (batch, len(shape.parents)))
    tokens = best[:, depths - 1, jnp.asarray(shape.ranks)].astype(jnp.int32)
    return DraftTree(tokens, parents, mask, None, known, depth)


@dataclasses.dataclass(frozen=True)
class SelfDrafter(_InOrder):
    """Asks the target for K tokens at once, each given the committed tokens alone; see `self_draft`."""

    model: Model
    depth: int
    shape: RankTree

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.shape.parents)

    @property
    def target_forwards(self) -> int:
        """One."""
        return 1

    @property
    def target_rows(self) -> int:
        """The pending token and K queries."""
        return 1 + self.depth

    @property
    def settled(self) -> int:
        """The first draft has the target's own law."""
        return 1

    def propose(self, params: Params, state: Any, context: Context) -> tuple[DraftTree, None]:
        """Draws K tokens independently, and puts runners-up beside them."""
        rows, order = context.rows, context.rows.order
        assert order is not None
        ranks = rows.length[:, None] + jnp.arange(self.depth)
        pending = Inputs.causal(rows.pending[:, None], rows.length - 1)
        looks = jnp.broadcast_to(pending.looks, (*ranks.shape, 2))
        inputs = dataclasses.replace(
            pending, positions=order.at(pending.positions), queries=order.ask(ranks, looks)
        )
        logits = self.model.forward(target_params(params), inputs, context.cache).logits
        law = context.settings.warp.log_probs(logits, rows.history)
        noise, known = context.noise[:, : self.depth], logits[:, :1]
        drafts = _drafts(self.shape, self.depth, logits, law, noise, context.remaining, known)
        return drafts, None


def self_draft(model: Model, *, width: int = 6, nodes: int | None = None) -> SelfDrafter:
    """The target drafts for itself: K tokens from one forward, each given the committed tokens alone.

        d_j ~ p(x_{n+j} | x_{<n}),   j = 0, ..., K - 1

    d_0 has the target's own law and is accepted as it stands, so a step commits at least two tokens with two forwards;
    a row that lacks one token only takes one forward. Forwards never exceed tokens.

    Args:
      model: the target; answers queries.
      width: K, at least 2.
      nodes: N >= K, drafts in all: a tree with the runners-up of each position where they are likeliest to serve
        (`RankTree.best`). The chain of K if not given.

    Raises:
      ValueError: if `width < 2`, or no tree of depth K has so many nodes.

    Source: 2504.20456. Here the committed prefix is cached, so a draft scores K + 1 rows; the tree is ours.
    """
    width = _checked_width(width)
    nodes = width if nodes is None else nodes
    return SelfDrafter(model, width, RankTree.best(width, nodes, RATES, settled=True))


@dataclasses.dataclass(frozen=True)
class ContextNgram(_InOrder):
    """Draws from the bigrams of the known tokens; see `context_ngram`."""

    vocab_size: int
    depth: int

    def propose(self, params: Params, state: Any, context: Context) -> tuple[DraftTree, None]:
        """Draws K tokens, each given its left neighbour, by counts over committed tokens."""
        rows, order = context.rows, context.rows.order
        assert order is not None
        size = order.places.shape[1]
        ranks, mask = _upcoming(context, self.depth)
        at = order.places[:, : rows.tokens.shape[1]]
        committed = jnp.arange(at.shape[1]) < rows.length[:, None]
        at = jnp.where(committed, at, size)  # past the end: dropped
        by_place = jax.vmap(
            lambda at, values: jnp.zeros((size,), values.dtype).at[at].set(values, mode="drop")
        )
        tokens, known = by_place(at, rows.tokens[:, : at.shape[1]]), by_place(at, committed)
        count = lambda where, values: (
            jnp.zeros((self.vocab_size,)).at[values].add(where.astype(jnp.float32))
        )
        unigrams = jax.vmap(count)(known, tokens)
        pairs = known[:, :-1] & known[:, 1:]
        # Temperature alone: a filter or a ban could leave the few counted tokens without a law.
        warp = Warp(temperature=context.settings.warp.temperature)

        def draw(carry, inputs):
            canvas, filled = carry  # with the drafts so far
            rank, noise = inputs
            position = order.at(rank)
            left = jnp.maximum(position - 1, 0)[:, None]
            has_left = (position > 0) & jnp.take_along_axis(filled, left, axis=1)[:, 0]
            before = jnp.take_along_axis(canvas, left, axis=1)
            after = pairs & (tokens[:, :-1] == before) & has_left[:, None]
            bigrams = jax.vmap(count)(after, tokens[:, 1:])
            counts = jnp.where(bigrams.sum(-1, keepdims=True) > 0, bigrams, unigrams)
            law = warp.log_probs(jnp.log(counts))
            token = perturbed_argmax(law, noise)
            here = jnp.arange(size) == position[:, None]
            canvas = jnp.where(here, token[:, None], canvas)
            return (canvas, filled | here), (token, law)

        noise = context.noise[:, : self.depth].swapaxes(0, 1)
        _, (drafts, laws) = jax.lax.scan(draw, (tokens, known), (ranks.T, noise))
        return DraftTree.chain(drafts.T, mask, laws.swapaxes(0, 1)), None


def context_ngram(model: Model, *, width: int = 6) -> ContextNgram:
    """Drafts from the bigrams that the row itself shows, in-graph, with no model and no table of V x V.

        q(v | left neighbour a) = #(a v) / #(a .),   by unigrams where a was never followed by a known token

    Counts are those of the committed tokens; the left neighbour may be a draft of the same step. O(C + V) a draft.

    Args:
      model: the target, for its vocabulary.
      width: K, at least 2.

    Raises:
      ValueError: if `width < 2`.

    Source: 2504.20456. Where a position has no known left neighbour (the first one, or an order of the caller's own)
    unigrams serve, instead of a draft of the model.
    """
    return ContextNgram(model.vocab_size, _checked_width(width))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Riding:
    """What the last forward of the target said of the next ranks.

    Attributes:
      logits: float32 `[B, K, V]`, of ranks `length`, `length + 1`, ...
      ready: int32 `[B]`, how many of them there are.
    """

    logits: jax.Array
    ready: jax.Array


@dataclasses.dataclass(frozen=True)
class FusedDrafter(_InOrder):
    """Drafts with queries that rode along with the last verification; see `fused_draft`.

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

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.shape.parents)

    @property
    def rides_along(self) -> int:
        """R = O K."""
        return len(self.ends) * self.depth

    def init(self, params: Params, request: Request, output: Output) -> Riding:
        """Nothing is known before the first forward."""
        batch = request.prompt.shape[0]
        shape = (batch, self.depth, self.vocab_size)
        return Riding(jnp.zeros(shape, jnp.float32), jnp.zeros((batch,), jnp.int32))

    def propose(self, params: Params, state: Riding, context: Context) -> tuple[DraftTree, None]:
        """Draws independently from the laws at hand, and puts runners-up beside the draws."""
        law = context.settings.warp.log_probs(state.logits, context.rows.history)
        available = jnp.minimum(state.ready, context.remaining)
        noise = context.noise[:, : self.depth]
        return _drafts(self.shape, self.depth, state.logits, law, noise, available), None

    def _accepted(self) -> np.ndarray:
        """Drafts on the path to each scored token, `[N + 1]`."""
        return np.array([0, *self.shape.depths])

    def rides(self, context: Context, inputs: Inputs) -> Queries:
        """For each end of a drafts: K queries from rank n + a + 1 on, which cannot see the token at n + a."""
        order = context.rows.order
        assert order is not None
        batch = inputs.tokens.shape[0]
        ends = np.array(self.ends)
        ranks = self._accepted()[ends][:, None] + 1 + np.arange(self.depth)
        ranks = context.rows.length[:, None] + ranks.reshape(-1)
        looks = jnp.repeat(inputs.looks[:, ends], self.depth, axis=1)
        return order.ask(ranks, looks.reshape(batch, -1, 2))

    def update(self, state: Riding, made: None, committed: Committed) -> Riding:
        """Keeps the answers for the path that came true, or for the longest part of it that was asked about."""
        assert committed.rides is not None
        accepted, covered = self._accepted(), np.zeros(self.nodes + 1, np.int32)
        for token in range(self.nodes + 1):  # parents first
            above = self.shape.parents[token - 1] + 1 if token else 0
            covered[token] = self.ends.index(token) if token in self.ends else covered[above]
        passed = accepted - accepted[np.array(self.ends)[covered]]

        count = committed.outcome.count
        last = jnp.take_along_axis(committed.outcome.path, count[:, None], axis=1)[:, 0]
        beyond = jnp.asarray(passed)[last]
        ahead = jnp.minimum(beyond[:, None] + jnp.arange(self.depth), self.depth - 1)
        at = jnp.asarray(covered)[last][:, None] * self.depth + ahead
        logits = jnp.take_along_axis(committed.rides, at[..., None], axis=1)
        return Riding(logits, jnp.maximum(self.depth - beyond, 0).astype(jnp.int32))


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

    Source: ours; the idea extends 2504.20456.
    """
    width = _checked_width(width)
    shape = RankTree.best(width, width if nodes is None else nodes, RATES)
    most = len(shape.parents) + 1
    outcomes = most if outcomes is None else outcomes
    if not 1 <= outcomes <= most:
        raise ValueError(f"outcomes must lie in 1 to {most}, got {outcomes}")
    likeliest = 1 + np.argsort(-shape.stops[1:], kind="stable")[: outcomes - 1]
    return FusedDrafter(model.vocab_size, width, shape, (0, *sorted(likeliest.tolist())))
