"""The two parts of speculation, and what they see: drafters propose a tree, verifiers judge it.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth, W = D + 1 tokens a step at most, R queries of the
drafter, V vocabulary.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness, Part, Request, Rows, Scored, Settings
from jaxdec.model import Inputs, Model, Output, Params, Queries
from jaxdec.sampling import History, TopTokens, top_tokens
from jaxdec.speculative.tree import DraftTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
    """What a drafter or a verifier may look at in a step.

    Attributes:
      rows: committed tokens.
      settings: the request's settings; a drafter warps its own law with the same pipeline.
      keys: row keys `[B]`.
      noise: float32 `[B, D + 1, V]`, Gumbel noise by depth, to draw drafts with. Where the verifier shares its
        noise this is the very noise of the target's tokens at positions `length + depth`, so that a drafter that
        uses it agrees with the target as often as their laws overlap.
      cache: the target's, for drafters that ask the target itself; only read.
      shares_noise: whether `noise` is that of the target's own tokens; static.
      history: the past as each scored token sees it, `[B, T, ...]`, for verifiers that warp laws of their own; None for
        drafters, and where the warp reads none.
    """

    rows: Rows
    settings: Settings
    keys: jax.Array
    noise: jax.Array
    cache: Any = None
    shares_noise: bool = dataclasses.field(default=True, metadata={"static": True})
    history: History | None = None

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.noise.shape[-1]

    @property
    def remaining(self) -> jax.Array:
        """Tokens that each row may still emit, int32 `[B]`."""
        generated = self.rows.length - self.rows.prompt_length
        return self.settings.max_new_tokens - generated


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a verifier decided for each row, and how likely the tokens are. What stands after `count` is arbitrary.

    Attributes:
      path: int32 `[B, W]`, scored tokens from the pending one (0) down the accepted nodes; entries after `count` are
        valid indices.
      count: int32 `[B]`, accepted nodes.
      next_token: int32 `[B]`, the token that follows them.
      log_probs: float32 `[B, W]`, of each token of the chunk under the warped law; NaN where the law is broken, -inf
        for a token that a relaxed rule keeps and the law gives nothing.
      raw_log_probs: float32 `[B, W]`, under the target's own law.
    """

    path: jax.Array
    count: jax.Array
    next_token: jax.Array
    log_probs: jax.Array
    raw_log_probs: jax.Array

    @classmethod
    def of(
        cls,
        tree: DraftTree,
        path: jax.Array,
        count: jax.Array,
        next_token: jax.Array,
        *,
        logits: jax.Array,
        log_probs: jax.Array,
    ) -> "Verdict":
        """A verdict whose likelihoods are read from the laws after all scored tokens.

        Args:
          tree: what was judged.
          path: int32 `[B, W]`.
          count: int32 `[B]`.
          next_token: int32 `[B]`.
          logits: `[B, T, V]`, the target's.
          log_probs: float32 `[B, T, V]`, warped.
        """
        chunk = _chunk(tree, path, count, next_token)

        def at_path(values):  # of each chunk token after its predecessor
            rows = jnp.take_along_axis(values, path[..., None], axis=1)
            return jnp.take_along_axis(rows, chunk[..., None], axis=2)[..., 0]

        totals = jax.nn.logsumexp(logits, axis=-1, keepdims=True)[..., 0]
        raw = at_path(logits) - jnp.take_along_axis(totals, path, axis=1)
        return cls(path, count, next_token, at_path(log_probs), raw)

    def drafted(self) -> jax.Array:
        """Which tokens of `chunk` are drafts, bool `[B, W]`."""
        return _drafted(self.path, self.count)

    def chunk(self, tree: DraftTree) -> jax.Array:
        """The tokens of the accepted nodes and `next_token`, int32 `[B, W]`; that again after them."""
        return _chunk(tree, self.path, self.count, self.next_token)

    def top(self, logits: jax.Array, count: int) -> TopTokens | None:
        """The `count` most probable tokens of the laws of the chunk, by `logits [B, T, V]`; None for 0."""
        return top_tokens(jnp.take_along_axis(logits, self.path[..., None], axis=1), count)


def _drafted(path: jax.Array, count: jax.Array) -> jax.Array:
    return jnp.arange(path.shape[1]) < count[:, None]


def _chunk(tree: DraftTree, path: jax.Array, count: jax.Array, next_token: jax.Array) -> jax.Array:
    drafts = jnp.take_along_axis(tree.tokens, jnp.maximum(path[:, 1:] - 1, 0), axis=1)
    drafts = jnp.pad(drafts, ((0, 0), (0, 1)))
    return jnp.where(_drafted(path, count), drafts, next_token[:, None])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepResult:
    """What a step found out, before anything is committed; what is committed, and what the drafter learns from.

    Attributes:
      verdict: of the verifier.
      chunk: int32 `[B, W]`, the accepted path and the token after it.
      offered: int32 `[B]`, tokens of the chunk that the step would commit.
      output: of the target's forward over the T scored tokens (those after the drafts that the target drew itself).
      answers: float32 `[B, R, V]`, to the queries that the drafter sent along; None if it sent none.
      proposal: what the drafter wants to know of how its tree was made.
      proposed: int32 `[B]`, drafts; this and the following are counts for the info.
      target_forwards: int32 `[B]`.
      target_rows: int32 `[B]`.
      draft_forwards: int32 `[B]`.
      top: the most probable tokens `[B, W, K]` of the target's own law of each token of the chunk; None where none are
        asked for.
    """

    verdict: Verdict
    chunk: jax.Array
    offered: jax.Array
    output: Output
    answers: jax.Array | None
    proposal: Any
    proposed: jax.Array
    target_forwards: jax.Array
    target_rows: jax.Array
    draft_forwards: jax.Array
    top: TopTokens | None = None


class Drafter(Part, abc.ABC):
    """Proposes continuations. Subclasses are frozen dataclasses, so that they compare by value; all methods are pure.

    The state is a pytree whose arrays all have the rows as their leading axis (a cache with its own `rows` beside), so
    that rows can be moved about. `params` of every hook are the drafter's own, `params[name]`, or None.

    Attributes:
      depth: D, the longest path that it proposes.
      nodes: N, the nodes of its trees; D for a chain.
      vocab_size: V of the targets that it drafts for; None for any.
      forwards: forwards of a draft model in one proposal.
      target_forwards: forwards of the target in one proposal.
      query_count: R, queries that it sends along with the target's forward.
      target_drawn: leading drafts that are the target's own draws (`DraftTree.target_logits`).
      independent: whether siblings are independent draws from one law, as those of several chains are.
      taps: layers of the target whose hidden states it reads, 0 for the embedding; they are the last of the layer
        states of `Output`.
    """

    depth: int

    @property
    def nodes(self) -> int:
        """N."""
        return self.depth

    @property
    def forwards(self) -> int:
        """None unless a subclass says otherwise; so the following."""
        return 0

    @property
    def target_forwards(self) -> int:
        """See above."""
        return 0

    def target_rows(self, size: jax.Array | None) -> int | jax.Array:
        """Positions that the forwards of the target in one proposal compute, of rows of `size [B]` positions.

        See `Model.scored_rows`; `size` is None without an order.
        """
        return 0

    @property
    def query_count(self) -> int:
        """R."""
        return 0

    @property
    def target_drawn(self) -> int:
        """See above."""
        return 0

    @property
    def taps(self) -> tuple[int, ...]:
        """None unless a subclass says otherwise."""
        return ()

    @property
    def independent(self) -> bool:
        """True for a single chain, which has no siblings."""
        return self.nodes == self.depth

    def check_target(self, target: Model) -> None:
        """Raises `ValueError` for a target of another vocabulary."""
        own = getattr(self, "vocab_size", None)
        if own is not None and own != target.vocab_size:
            raise ValueError(
                f"{type(self).__name__} drafts from a vocabulary of {own}, the target has one of {target.vocab_size}"
            )

    def init(self, params: Params, request: Request, output: Output) -> Any:
        """The drafter's state after reading the prompts, over which the target's forward gave `output`."""
        return None

    @abc.abstractmethod
    def propose(self, params: Params, state: Any, context: Context) -> tuple[DraftTree, Any]:
        """A tree for each row, and what `update` will want to know of how it was made."""

    def queries(self, params: Params, context: Context, inputs: Inputs) -> Queries | None:
        """Queries that the target answers in the same forward in which it scores the tree, given by `inputs`."""
        return None

    def update(self, params: Params, state: Any, rows: Rows, result: StepResult) -> Any:
        """The state after tokens were committed.

        Args:
          params: the drafter's own.
          state: that `propose` saw.
          rows: after the step.
          result: what the step found out; `result.proposal` is what `propose` gave.
        """
        return state

    def rest(self, params: Params, state: Any, before: Rows, rows: Rows, result: StepResult) -> Any:
        """The state after a step in which nothing was drafted, in place of `update`.

        Args:
          params: the drafter's own.
          state: before the step.
          before: the rows before the step.
          rows: after it.
          result: what the step found out, of the pending token alone; it has no proposal.

        Raises:
          ValueError: for a drafter that learns in `update` and does not say here what of it is left to learn.
        """
        if type(self).update is not Drafter.update:
            raise ValueError(
                f"{type(self).__name__} must draft in every step, so that 0 is no length for it: it goes on from what "
                "the target said of its last drafts"
            )
        return state

    def catch_up(self, params: Params, state: Any, rows: Rows) -> Any:
        """The state before a proposal, once it knows what was committed in steps that drafted nothing.

        Args:
          params: the drafter's own.
          state: after any number of such steps, or none.
          rows: before the step.
        """
        return state


class Verifier(Part, abc.ABC):
    """Decides which path of a tree is kept. Subclasses are frozen dataclasses, so that they compare by value; pure.

    Attributes:
      exactness: what the verifier promises for every drafter that states its `q` truthfully.
      shares_noise: whether drafters may use the noise of the target's own tokens.
      chains_only: whether trees must be chains.
      needs_independence: whether siblings must be independent draws from one law (`Drafter.independent`).
    """

    exactness: Exactness
    shares_noise: bool
    chains_only: bool
    needs_independence: bool

    def asides(
        self, params: Params, tree: DraftTree, context: Context
    ) -> tuple[jax.Array, jax.Array] | None:
        """Tokens that the target scores in the same forward, for the verifier alone: they are never committed.

        Returns:
          `(tokens, above)`, int32 `[B, M]` each, the second the scored token that each hangs off: 0 for the pending
          one, n + 1 for node n, T + m for an aside before it. What the target says after them is `Scored.asides`. None
          for no such tokens.
        """
        return None

    @abc.abstractmethod
    def verify(
        self,
        params: Params,
        tree: DraftTree,
        scored: Scored,
        log_probs: jax.Array,
        context: Context,
    ) -> Verdict:
        """Judges a tree.

        Args:
          params: the verifier's own, `params[name]`, or None.
          tree: what the drafter proposed.
          scored: logits, hidden states and layer states of the target after each scored token, `[B, T, ...]`. Hidden
            states after tokens whose laws the drafter brought along (`DraftTree.target_logits`) are zeros.
          log_probs: float32 `[B, T, V]`, the warped laws of those tokens. What is not read of them is not computed: a
            verifier that needs but few of them may compute these from the logits.
          context: of the step.
        """
