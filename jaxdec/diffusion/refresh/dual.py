"""Everything around the active group is kept while the group is decoded."""

import dataclasses

import jax

from jaxdec.arguments import typed
from jaxdec.diffusion.refresh.contract import CanvasStatus, Refresh
from jaxdec.diffusion.refresh.refreshed import Refreshed, checked_period
from jaxdec.diffusion.schedules import Schedule
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Dual(Refreshed):
    """See `dual`."""

    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """A group, and everything."""
        return min(schedule.largest(room)[0], length), length

    def narrow(self, params: Params, status: CanvasStatus) -> jax.Array:
        """The active group."""
        return status.active


@typed
def dual(period: int | None = None) -> Refresh:
    """Entries of everything before and after the active group are kept while the group is decoded.

        fresh = {i: g_i = g};   all when a group begins and every `period` steps

    g_i is the group of position i, g the active one.

    Args:
      period: refresh after as many steps as well (knob `refresh_period`).

    Raises:
      ValueError: for a period below 1.

    Exactness: approximate(period); period 1 is no cache.

    Source: Fast-dLLM 2505.22618.
    """
    return Dual(checked_period(period))
