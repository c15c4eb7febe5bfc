"""The two parts of speculation, and what they see: drafters propose a tree, verifiers judge it.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth, V vocabulary.
"""

import abc
import dataclasses
from typing import Any, Protocol

import jax

from jaxdec.decoding import Exactness, Request, Rows, Settings
from jaxdec.model import Inputs, Output, Params, Queries
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


class Verifier(Protocol):
    """Decides which path of a tree is kept. Compares by value; pure."""

    @property
    def exactness(self) -> Exactness:
        """What the verifier promises for every drafter that states its `q` truthfully."""
        ...

    @property
    def shares_noise(self) -> bool:
        """Whether drafters may use the noise of the target's own tokens."""
        ...

    @property
    def chains_only(self) -> bool:
        """Whether trees must be chains."""
        ...

    @property
    def needs_independence(self) -> bool:
        """Whether siblings must be independent draws from one law (`Drafter.independent`)."""
        ...

    # `knobs` is optional: a dict of `Knob` by name, the traced settings that the verifier takes.

    def verify(self, tree: DraftTree, log_probs: jax.Array, context: Context) -> Outcome:
        """Judges a tree; `log_probs` float32 `[B, T, V]` are the target's warped laws after each scored token."""
        ...
