"""Remask rules take committed tokens of the active group back.

Legend: B rows, W positions of the active group.
"""

import abc
from typing import Any, ClassVar

import jax

from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import GroupPart, Knobs
from jaxdec.model import Params


class Remask(GroupPart):
    """Takes committed tokens of the active group back; they are drawn again, with other noise."""

    rewrites: ClassVar[bool] = False
    """Whether the token drawn in this step takes the place of what is taken back, rather than a mask."""

    @abc.abstractmethod
    def take_back(
        self, params: Params, seen: Candidates, reveal: jax.Array, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Which positions are masked again, bool `[B, W]`, and the next state.

        Args:
          params: the rule's own.
          seen: the step.
          reveal: bool `[B, W]`, positions that the policy has just committed.
          state: as `init` made it, or the last step.
          knobs: traced settings.

        No position that was given with the prompt is taken back, and none at all where the group would not grow, once
        `patience` is over; a rule that rewrites may do so in any step.
        """

    def lingers(self, state: Any, never: jax.Array) -> jax.Array:
        """Whether a group without masks takes another step, bool `[B]`, after a step that led to `state`.

        `never` is the answer of a rule without such steps; others bound how many there are.
        """
        return never

    def patience(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """The first steps of a group after which no more need be committed than before, int32 `[B]`.

        As many as the group had to fill, unless a rule says otherwise: a group then takes at most twice as many.
        """
        return seen.opened
