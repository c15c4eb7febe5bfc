"""The two parts of speculation, and what they see: drafters propose a tree, verifiers judge it.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth, V vocabulary.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness, Knob, Request, Rows, Settings
from jaxdec.model import Inputs, Output, Params, Queries
from jaxdec.sampling import History
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
    """

    rows: Rows
    settings: Settings
    keys: jax.Array
    noise: jax.Array
    cache: Any = None
    shares_noise: bool = dataclasses.field(default=True, metadata={"static": True})

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
class Outcome:
    """What a verifier decided for each row.

    Attributes:
      path: int32 `[B, D + 1]`, scored tokens from the pending one (0) down the accepted nodes; entries after
        `count` are arbitrary valid indices.
      count: int32 `[B]`, accepted nodes.
      next_token: int32 `[B]`, the token that follows them.
    """

    path: jax.Array
    count: jax.Array
    next_token: jax.Array

    def drafted(self) -> jax.Array:
        """Which tokens of `chunk` are drafts, bool `[B, D + 1]`."""
        return jnp.arange(self.path.shape[1]) < self.count[:, None]

    def chunk(self, tree: DraftTree) -> jax.Array:
        """The tokens of the accepted nodes and `next_token`, int32 `[B, D + 1]`; that again after them."""
        drafts = jnp.take_along_axis(tree.tokens, jnp.maximum(self.path[:, 1:] - 1, 0), axis=1)
        drafts = jnp.pad(drafts, ((0, 0), (0, 1)))
        return jnp.where(self.drafted(), drafts, self.next_token[:, None])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Verdict:
    """An outcome, and how likely its tokens were. What stands after `count` is arbitrary.

    Attributes:
      outcome: what the verifier decided.
      log_probs: float32 `[B, D + 1]`, of each token of the chunk under the warped law; NaN where the law is broken.
      raw_log_probs: float32 `[B, D + 1]`, under the target's own law.
    """

    outcome: Outcome
    log_probs: jax.Array
    raw_log_probs: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Committed:
    """How a step ended, for the drafter's next state.

    Attributes:
      rows: after the step.
      outcome: what the verifier decided.
      output: of the target's forward over the T scored tokens.
      rides: float32 `[B, R, V]`, answers to the queries that the drafter sent along; None if it sent none.
    """

    rows: Rows
    outcome: Outcome
    output: Output
    rides: jax.Array | None


class Drafter(abc.ABC):
    """Proposes continuations. Subclasses are frozen dataclasses, so that they compare by value; all methods are pure.

    Attributes:
      depth: D, the longest path that it proposes.
      nodes: N, the nodes of its trees; D for a chain.
      forwards: forwards of a draft model in one proposal.
      target_forwards: forwards of the target in one proposal.
      target_rows: tokens and queries that these score.
      rides_along: R, queries that it sends along with the target's forward.
      settled: leading drafts that are the target's own draws (`DraftTree.known`).
      independent: whether siblings are independent draws from one law, as those of several chains are.
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

    @property
    def target_rows(self) -> int:
        """See above."""
        return 0

    @property
    def rides_along(self) -> int:
        """R."""
        return 0

    @property
    def settled(self) -> int:
        """See above."""
        return 0

    @property
    def independent(self) -> bool:
        """True for a single chain, which has no siblings."""
        return self.nodes == self.depth

    def check(self, request: Request, params: Params, vocab_size: int) -> None:  # noqa: B027
        """Raises `ValueError` for a request or target that the drafter cannot serve."""

    def init(self, params: Params, request: Request, output: Output) -> Any:
        """The drafter's state after reading the prompts, over which the target's forward gave `output`."""
        return None

    @abc.abstractmethod
    def propose(self, params: Params, state: Any, context: Context) -> tuple[DraftTree, Any]:
        """A tree for each row, and what `update` will want to know of how it was made."""

    def rides(self, context: Context, inputs: Inputs) -> Queries | None:
        """Queries that the target answers in the same forward in which it scores the tree, given by `inputs`."""
        return None

    def update(self, state: Any, made: Any, committed: Committed) -> Any:
        """The state after tokens were committed."""
        return state


class Verifier(abc.ABC):
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

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings that the verifier takes, by name; none unless a subclass says otherwise."""
        return {}

    @abc.abstractmethod
    def verify(self, tree: DraftTree, log_probs: jax.Array, context: Context) -> Outcome:
        """Judges a tree; `log_probs` float32 `[B, T, V]` are the target's warped laws after each scored token."""

    def judge(
        self, tree: DraftTree, logits: jax.Array, history: History | None, context: Context
    ) -> Verdict:
        """Judges a tree by the target's logits: by `verify` on the laws after all scored tokens.

        A subclass that needs but few of these laws may do without the others.

        Args:
          tree: what the drafter proposed.
          logits: `[B, T, V]`, the target's after each scored token.
          history: counts as each scored token sees them, if the warp needs them.
          context: of the step.
        """
        laws = context.settings.warp.log_probs(logits, history)
        outcome = self.verify(tree, laws, context)
        chunk = outcome.chunk(tree)

        def at_path(values):  # of each chunk token after its predecessor
            rows = jnp.take_along_axis(values, outcome.path[..., None], axis=1)
            return jnp.take_along_axis(rows, chunk[..., None], axis=2)[..., 0]

        totals = jax.nn.logsumexp(logits, axis=-1, keepdims=True)[..., 0]
        raw = at_path(logits) - jnp.take_along_axis(totals, outcome.path, axis=1)
        return Verdict(outcome, at_path(laws), raw)
