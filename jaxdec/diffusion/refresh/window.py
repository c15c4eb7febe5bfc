"""A window of masks: far ones are not there, near ones are kept, the first ones are computed.

Legend: B rows, L positions.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.refresh.contract import CanvasStatus
from jaxdec.diffusion.refresh.refreshed import Refreshed, checked_period
from jaxdec.diffusion.schedules import Near, Schedule
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Window(Refreshed):
    """See `window`."""

    active: int = 16
    kept_fresh: int = 32
    near: int = dataclasses.field(default=64, compare=False)

    partial = True
    spans = Near()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`refresh_period`, and `near`."""
        return {**super().knobs, "near": Knob(self.near, 1, integer=True)}

    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """The first masks and what was filled since the refresh; and everything."""
        return min(self.active + self.kept_fresh, length), length

    def units(
        self, params: Params, status: CanvasStatus, knobs: Mapping[str, jax.Array]
    ) -> jax.Array:
        """0 for what is there, 1 for masks that are too far."""
        rank = jnp.cumsum(status.masked, axis=1, dtype=jnp.int32)
        far = status.masked & (rank > jnp.maximum(knobs["near"], self.active)[:, None])
        return jnp.where(far, 1, jnp.minimum(status.units, 0)).astype(jnp.int32)

    def narrow(self, params: Params, status: CanvasStatus) -> jax.Array:
        """The first masks, and what was filled since the refresh."""
        masked = status.masked & (status.units <= 0)
        first = masked & (jnp.cumsum(masked, axis=1, dtype=jnp.int32) <= self.active)
        return first | status.recent

    def wide(self, params: Params, status: CanvasStatus) -> jax.Array:
        """All but the masks that are too far."""
        return status.exists & (status.units <= 0)

    def due(self, params: Params, status: CanvasStatus) -> jax.Array:
        """When the period is over, when too much has been filled, and when too few near masks are left."""
        many = status.recent.sum(1) > self.kept_fresh
        far = status.masked & (status.units > 0)
        few = (status.masked & ~far).sum(1) < self.active
        return super().due(params, status) | many | (few & far.any(1))


@typed
def window(active: int = 16, near: int = 64, period: int | None = 32, *, kept: int = 32) -> Window:
    """Computes the first masks alone; masks behind them are kept for a while, and those far behind do not exist.

        far = {i masked: near or more masks before it};   fresh = all but the far ones when a period begins
        fresh = the first `active` masks, and what was committed since the period began;   no one sees the far ones

    far and near are those of the beginning of the period, which also ends when fewer than `active` near masks are left
    and others are far. For `schedules.whole()` under full attention, and a policy
    that keeps to the first `active` masks, `unmask.leftmost(policy, active)`: other laws are NaN.

    Args:
      active: masks that are computed in each step.
      near: masks that exist (knob `near`); `active` of them at least.
      period: steps until all is computed again (knob `refresh_period`); None for as long as there is room.
      kept: committed positions that are computed on; with more of them the period ends early.

    Raises:
      ValueError: for sizes or a period below 1.

    Exactness: heuristic: far masks are left out. With `near` and `active` as large as the canvas, period 1 is no cache.

    Source: Window-Diffusion 2601.20332. Its first step of a period may commit outside of the active masks, not here;
    its cut behind the first end of the sequence is that of every row. A step that computes all has the width of the
    canvas, whatever is far: `target_rows` says what is there.
    """
    for what, size in (("active", active), ("near", near), ("kept", kept)):
        if size < 1:
            raise ValueError(f"{what} must be at least 1, got {size}")
    return Window(checked_period(period), active, kept, near)
