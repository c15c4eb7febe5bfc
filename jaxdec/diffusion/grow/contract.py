"""Rules that say how long a canvas is while it is decoded.

Legend: B rows, W positions of the active group.
"""

import abc
from typing import Any, NamedTuple

import jax

from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import GroupPart, Knobs
from jaxdec.model import Params


class Growth(NamedTuple):
    """What becomes of the canvas after a step.

    Attributes:
      hold: bool `[B]`, rows in which nothing is committed in this step.
      at: int32 `[B]`, the masked position of the group in whose place `masks` stand from now on; -1 for none.
      masks: int32 `[B]`, how many, at least 1.
      more: int32 `[B]`, masks behind the end.
      ends: int32 `[B]`, end tokens behind these, committed.
    """

    hold: jax.Array
    at: jax.Array
    masks: jax.Array
    more: jax.Array
    ends: jax.Array


class Grow(GroupPart):
    """Begins with a shorter canvas than was asked for, and lengthens it. The group is the whole canvas."""

    @abc.abstractmethod
    def start(self, knobs: Knobs) -> jax.Array:
        """Positions of a canvas at first, int32 `[B]`; no more than were asked for exist."""

    @abc.abstractmethod
    def grow(
        self,
        params: Params,
        seen: Candidates,
        reveal: jax.Array,
        room: jax.Array,
        may_end: jax.Array,
        state: Any,
        knobs: Knobs,
    ) -> tuple[Growth, Any]:
        """What becomes of the canvas, and the next state.

        Args:
          params: the rule's own.
          seen: the step.
          reveal: bool `[B, W]`, positions that it commits, unless they are held.
          room: int32 `[B]`, positions by which the canvas may grow; what grows over that is cut off from behind.
          may_end: bool `[B]`, whether an end token may stand behind: there is one, and it is not banned. A row in which
            none may has to grow to its limit.
          state: as `init` made it before the first step, or of the last one.
          knobs: traced settings.
        """
