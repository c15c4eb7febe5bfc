"""Joint rules say what the laws of a forward become once some of its tokens are committed, without another forward.

    forward -> step -> further laws -> step -> ... -> forward

Legend: B rows, W positions of the active group, V vocabulary.
"""

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.decoding import Part, Scored
from jaxdec.diffusion.contract import Knobs
from jaxdec.model import Model, Params


class Revealed(NamedTuple):
    """The active group between two steps of a forward.

    Attributes:
      places: int32 `[B, W]`, positions.
      there: bool `[B, W]`, whether there is such a position.
      tokens: int32 `[B, W]`; what stands at positions that are not known means nothing.
      known: bool `[B, W]`, positions that hold a token.
      new: bool `[B, W]`, those that were committed since the forward.
    """

    places: jax.Array
    there: jax.Array
    tokens: jax.Array
    known: jax.Array
    new: jax.Array


class Joint(Part, abc.ABC):
    """Gives further laws. Subclasses are frozen dataclasses; all methods are pure.

    Attributes:
      number: K, steps that a forward serves, at most.
    """

    number: int

    def check_model(self, model: Model) -> None:
        """Raises `ValueError` for a canvas model whose forwards it cannot go on from."""

    def steps(self, knobs: Knobs, batch: int) -> jax.Array:
        """Steps that a forward serves in each row, int32 `[B]`."""
        return jnp.full((batch,), self.number, jnp.int32)

    @abc.abstractmethod
    def further(
        self, params: Params, first: Scored, last: Scored, revealed: Revealed, knobs: Knobs
    ) -> Scored:
        """The laws of the next step, as a forward over the group with what is now known would give them.

        Args:
          params: the rule's own; None without weights.
          first: the forward over the group, `[B, W, ...]`.
          last: what the last step saw: the same, or what this hook gave.
          revealed: the group.
          knobs: traced settings.
        """
