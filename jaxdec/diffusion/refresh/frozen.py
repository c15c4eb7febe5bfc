"""Finished groups are computed once and never again."""

import dataclasses

import jax

from jaxdec.arguments import typed
from jaxdec.diffusion.refresh.contract import CanvasStatus, Refresh
from jaxdec.diffusion.refresh.prefix import Prefix
from jaxdec.diffusion.refresh.refreshed import checked_period
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Frozen(Prefix):
    """See `frozen`."""

    def wide(self, params: Params, status: CanvasStatus) -> jax.Array:
        """The group that has just been finished, for the last time, and all later ones; at first everything."""
        everything = status.first | status.over
        return status.exists & (everything[:, None] | (status.groups >= status.group - 1))


@typed
def frozen(period: int | None = None) -> Refresh:
    """Entries of finished groups are computed once, when the next group begins, and never again.

        fresh = {i: g_i >= g};   {i: g_i >= g - 1} when a group begins, all at first and every `period` steps

    g_i is the group of position i, g the active one.

    Args:
      period: compute everything after as many steps all the same (knob `refresh_period`).

    Raises:
      ValueError: for a period below 1.

    Exactness: approximate(period); period 1 is no cache.

    Source: FreeCache 2505.21467, with the last finished group as the boundary.
    """
    return Frozen(checked_period(period))
