"""Refresh rules: which positions of a canvas are computed again in a step, and which are read as they were.

A step computes the rows of some positions, its *fresh* ones, and reads the keys and values of all others from the
cache. Most steps are narrow; a *wide* one, when a group begins or a period is over, computes more and so refreshes the
cache. A rule says in terms of groups and units (blocks) which positions are which; both sets have a fixed size.

Legend: B rows, L positions, g the active group, u its unit.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.decoding import Knob
from jaxdec.diffusion.schedules import Schedule

NEVER = 2**30
"""A period that no row ever reaches."""


class CanvasStatus(NamedTuple):
    """What a rule may look at.

    Attributes:
      groups: int32 `[B, L]`.
      units: int32 `[B, L]`.
      exists: bool `[B, L]`, positions of the prompt and those that are generated.
      group: int32 `[B, 1]`, g.
      unit: int32 `[B, 1]`, u.
      entered: bool `[B]`, whether this is the group's first step.
      entered_unit: bool `[B]`, whether it is the unit's first step.
      first: bool `[B]`, whether it is the row's first step.
      over: bool `[B]`, whether the refresh period is over.
    """

    groups: jax.Array
    units: jax.Array
    exists: jax.Array
    group: jax.Array
    unit: jax.Array
    entered: jax.Array
    entered_unit: jax.Array
    first: jax.Array
    over: jax.Array


@dataclasses.dataclass(frozen=True)
class Refresh:
    """No cache: every step computes every position.

    Attributes:
      period: steps after which the cache is refreshed whatever happens; None for never.
    """

    period: int | None = dataclasses.field(default=None, compare=False)

    kept = False
    """Whether there is a cache."""
    exact = True
    """Whether what is read equals what would be computed, for a block-causal model."""
    needs_blocks = False
    """Whether the rule is for block-causal attention alone."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """`refresh_period`, for rules that refresh."""
        if self.exact:
            return {}
        default = NEVER if self.period is None else self.period
        return {"refresh_period": Knob(default, 1, integer=True)}

    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """Fresh positions of a narrow and of a wide step, at most.

        Args:
          schedule: of the decoder.
          length: L.
          room: positions that can be generated.
        """
        return length, length

    def prefill(self, status: CanvasStatus) -> jax.Array | None:
        """Positions that are computed before the first step, bool `[B, L]`."""
        return None

    def narrow(self, status: CanvasStatus) -> jax.Array:
        """Fresh positions of a narrow step, bool `[B, L]`."""
        return status.exists

    def wide(self, status: CanvasStatus) -> jax.Array:
        """Fresh positions of a wide step, bool `[B, L]`; they include the narrow ones."""
        return status.exists

    def due(self, status: CanvasStatus) -> jax.Array:
        """Which rows take a wide step, bool `[B]`."""
        return jnp.zeros_like(status.first)
