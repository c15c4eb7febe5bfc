"""What a rule of draft lengths sees and says.

Legend: B rows, K lengths of a ladder.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Part, Rows
from jaxdec.model import Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Acceptance:
    """How the drafts of each row fared lately.

    Attributes:
      accepted: float32 `[B]`, drafts that passed their test, older ones weighing less.
      tested: float32 `[B]`, drafts that were tested, weighed alike.
    """

    accepted: jax.Array
    tested: jax.Array

    @classmethod
    def start(cls, expected: float, like: jax.Array) -> "Acceptance":
        """A share of `expected` for as many rows as an array `[B]` has, held as weakly as two tests."""
        tested = jnp.full(like.shape, 2, jnp.float32)
        return cls(expected * tested, tested)

    @property
    def rate(self) -> jax.Array:
        """The share of tested drafts that passed, float32 `[B]`, below 1."""
        return jnp.minimum(self.accepted / self.tested, 0.999)


@dataclasses.dataclass(frozen=True)
class Ladder:
    """The lengths that there are to choose from, shortest first.

    Attributes:
      drafts: of each, 0 for a step of plain decoding.
      certain: of each, the leading drafts that always stand (`Drafter.target_drawn`).
    """

    drafts: tuple[int, ...]
    certain: tuple[int, ...]

    def tokens(self, acceptance: Acceptance) -> jax.Array:
        """Tokens that a step is expected to give, float32 `[B, K]`: `s + (1 - a^(K - s + 1)) / (1 - a)`."""
        rate = acceptance.rate[:, None]
        drafts, certain = (jnp.asarray(x, jnp.float32) for x in (self.drafts, self.certain))
        return certain + (1 - rate ** (drafts - certain + 1)) / (1 - rate)


class LengthRule(Part, abc.ABC):
    """Chooses draft lengths in the loop. Subclasses are frozen dataclasses, so that they compare by value; pure.

    Attributes:
      by_row: whether a row's choice depends on that row alone. Where it does not, what a row drafts depends on its
        neighbours, and of its tokens only what the verifier promises holds.
    """

    by_row: bool = True

    def check_ladder(self, ladder: Ladder) -> None:
        """Raises `ValueError` for lengths that the rule cannot choose among."""

    def check_params(self, params: Params | None, ladder: Ladder) -> None:
        """Raises `ValueError` for parameters of its own that do not serve such lengths."""

    def start(self, rows: Rows) -> Acceptance:
        """What is thought of new rows: one half of their drafts will pass."""
        return Acceptance.start(0.5, rows.length)

    @abc.abstractmethod
    def choose(
        self, params: Params | None, acceptance: Acceptance, rows: Rows, ladder: Ladder
    ) -> jax.Array:
        """The length of each row, as an index int32 `[B]` of the ladder."""

    def learn(
        self, acceptance: Acceptance, accepted: jax.Array, tested: jax.Array, asked: jax.Array
    ) -> Acceptance:
        """The estimate after a step.

        Args:
          acceptance: before it.
          accepted: int32 `[B]`, drafts that passed their test, less those that always do.
          tested: int32 `[B]`, drafts that were tested.
          asked: bool `[B]`, whether drafts that can fail were asked for.
        """
        return Acceptance(acceptance.accepted + accepted, acceptance.tested + tested)


def check_memory(memory: float) -> None:
    """Raises `ValueError` unless a weight of the past lies in (0, 1]."""
    if not 0 < memory <= 1:
        raise ValueError(f"memory must lie in (0, 1], got {memory}")
