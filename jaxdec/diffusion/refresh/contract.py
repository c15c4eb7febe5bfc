"""Refresh rules: which positions of a canvas are computed again in a step, and which are read as they were.

A step computes the rows of some positions, its *fresh* ones, and reads the keys and values of all others from the
cache. Most steps are narrow; a *wide* one, when a group begins or a period is over, computes more and so refreshes the
cache. A rule says in terms of groups and units (blocks) which positions are which; both sets have a fixed size.

Legend: B rows, L positions, g the active group, u its unit.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax

from jaxdec.decoding import Knob, Part
from jaxdec.diffusion.schedules import Schedule, SpanRule
from jaxdec.model import Params

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
      masked: bool `[B, L]`, positions that are to be filled.
      recent: bool `[B, L]`, positions that were committed since the last wide step, in it included.
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
    masked: jax.Array
    recent: jax.Array

    @property
    def active(self) -> jax.Array:
        """The active group, bool `[B, L]`."""
        return self.exists & (self.groups == self.group)


@dataclasses.dataclass(frozen=True)
class Refresh(Part, abc.ABC):
    """Which positions are computed in a step. Subclasses are frozen dataclasses; all methods are pure.

    Attributes:
      period: steps after which the cache is refreshed whatever happens; None for never.
    """

    period: int | None = dataclasses.field(default=None, compare=False)

    kept = True
    """Whether there is a cache."""
    exact = True
    """Whether what is read equals what would be computed, for a model whose units see no later one."""
    needs_blocks = False
    """Whether the rule is for such models alone."""
    partial = False
    """Whether a step computes a part of the active group alone, of whose other positions the law is NaN, and the rule
    numbers the units (`units`)."""
    spans: ClassVar[SpanRule | None] = None
    """Which of its units see which."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """`refresh_period`, for rules that refresh."""
        if self.exact:
            return {}
        default = NEVER if self.period is None else self.period
        return {"refresh_period": Knob(default, 1, integer=True)}

    @abc.abstractmethod
    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """Fresh positions of a narrow and of a wide step, at most.

        Args:
          schedule: of the decoder.
          length: L.
          room: positions that can be generated.
        """

    def units(
        self, params: Params, status: CanvasStatus, knobs: Mapping[str, jax.Array]
    ) -> jax.Array:
        """The unit of every position from a wide step on, int32 `[B, L]`; asked of rules that are `partial`."""
        return status.units

    def prefill(self, params: Params, status: CanvasStatus) -> jax.Array | None:
        """Positions that are computed before the first step, bool `[B, L]`; None for none.

        Args:
          params: the rule's own; None without weights. So it is for every hook.
          status: where each row stands.
        """
        return None

    @abc.abstractmethod
    def narrow(self, params: Params, status: CanvasStatus) -> jax.Array:
        """Fresh positions of a narrow step, bool `[B, L]`."""

    @abc.abstractmethod
    def wide(self, params: Params, status: CanvasStatus) -> jax.Array:
        """Fresh positions of a wide step, bool `[B, L]`; they include the narrow ones."""

    @abc.abstractmethod
    def due(self, params: Params, status: CanvasStatus) -> jax.Array:
        """Which rows take a wide step, bool `[B]`."""
