"""What a step of the canvas loop reads.

Legend: B rows, L positions of the canvas.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.decoding import Rows, Settings
from jaxdec.diffusion.canvas import FAR, Canvas
from jaxdec.diffusion.refresh import NEVER, CanvasStatus


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Counters:
    """How far a row is, int32 `[B]` each.

    Attributes:
      group: the group of the last step; -2 before the first.
      unit: its unit.
      step: steps taken in this group.
      opened: positions that the group had to fill.
      steps: steps taken in all, those that a branch took ahead included.
      since: forwards since the last wide one.
      lingers: bool, whether the group takes another step, masks or none.
    """

    group: jax.Array
    unit: jax.Array
    step: jax.Array
    opened: jax.Array
    steps: jax.Array
    since: jax.Array
    lingers: jax.Array


class PartStates(NamedTuple):
    """States of the parts that work on the active group; None for one without a state, or that there is not."""

    unmask: Any
    remask: Any
    fuse: Any
    stop: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DenoiseState:
    """What a step reads.

    Attributes:
      rows: the finished prefix of each row.
      settings: the request's settings.
      canvas: everything.
      counters: how far each row is.
      parts: states of the parts, for the active group.
      ahead: int32 `[B, L]`, the branch from which on a masked position is filled with `canvas.tokens`; None for one
        branch.
      grow: the state of the rule that lengthens the canvas; None without one.
      cache: of the model, by position of the canvas; None without one.
      room: positions that can be generated; static.
      hypotheses: H, adjacent rows of each prompt; static.
      longest: a bound on the positions of every row, static; 0 for those of the canvas.
    """

    rows: Rows
    settings: Settings
    canvas: Canvas
    counters: Counters
    parts: PartStates
    ahead: jax.Array | None
    grow: Any
    cache: Any
    room: int = dataclasses.field(metadata={"static": True})
    longest: int = dataclasses.field(default=0, metadata={"static": True})
    hypotheses: int = dataclasses.field(default=1, metadata={"static": True})


def canvas_status(state: DenoiseState, first: jax.Array) -> CanvasStatus:
    """Where each row stands before a step; `first` bool `[B]`, whether it is the row's first one."""
    canvas, counters = state.canvas, state.counters
    active = lambda numbers: jnp.min(jnp.where(canvas.masked, numbers, FAR), axis=1)
    stay = lambda old, new: jnp.where(counters.lingers, old, new)
    group = stay(counters.group, active(canvas.groups))
    unit = stay(counters.unit, active(canvas.units))
    period = state.settings.knobs.get("refresh_period", jnp.full_like(group, NEVER))
    return CanvasStatus(
        groups=canvas.groups,
        units=canvas.units,
        exists=canvas.exists,
        group=group[:, None],
        unit=unit[:, None],
        entered=group != counters.group,
        entered_unit=unit != counters.unit,
        first=first,
        over=counters.since + 1 >= period,
        masked=canvas.masked,
        recent=canvas.exists & (canvas.steps >= (counters.steps - counters.since - 1)[:, None]),
    )
