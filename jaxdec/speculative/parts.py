"""The two parts of speculation, and what they see: drafters propose a tree, verifiers judge it.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth, V vocabulary.
"""

import dataclasses
from typing import Any, Protocol

import jax

from jaxdec.decoding import Exactness, Request, Rows, Settings
from jaxdec.model import Params
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
    """

    rows: Rows
    settings: Settings
    keys: jax.Array
    noise: jax.Array


class Drafter(Protocol):
    """Proposes continuations. Compares by value; its functions are pure."""

    @property
    def depth(self) -> int:
        """D, the longest path that it proposes."""
        ...

    @property
    def nodes(self) -> int:
        """N, the nodes of its trees."""
        ...

    @property
    def forwards(self) -> int:
        """Forwards of a draft model in one proposal."""
        ...

    def check(self, request: Request, params: Params, vocab_size: int) -> None:
        """Raises `ValueError` for a request or target that the drafter cannot serve."""
        ...

    def init(self, params: Params, request: Request) -> Any:
        """The drafter's state after reading the prompts."""
        ...

    def propose(self, params: Params, state: Any, context: Context) -> tuple[DraftTree, Any]:
        """A tree for each row, and what `update` will want to know of how it was made."""
        ...

    def update(self, state: Any, made: Any, rows: Rows) -> Any:
        """The state after `rows` were committed."""
        ...


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

    def verify(self, tree: DraftTree, log_probs: jax.Array, context: Context) -> Outcome:
        """Judges a tree; `log_probs` float32 `[B, T, V]` are the target's warped laws after each scored token."""
        ...
