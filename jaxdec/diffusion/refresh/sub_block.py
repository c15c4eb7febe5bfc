"""Finished blocks, and the rest of the active block while a sub-block is decoded."""

import dataclasses

import jax

from jaxdec.arguments import typed
from jaxdec.diffusion.refresh.block import Block
from jaxdec.diffusion.refresh.contract import CanvasStatus, Refresh
from jaxdec.diffusion.refresh.refreshed import checked_period
from jaxdec.diffusion.schedules import Schedule
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class SubBlock(Block):
    """See `sub_block`."""

    exact = False

    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """A sub-block, and two blocks."""
        group, unit = schedule.largest(room)
        return min(group, length), min(2 * unit, length)

    def narrow(self, params: Params, status: CanvasStatus) -> jax.Array:
        """The active sub-block."""
        return status.active

    def due(self, params: Params, status: CanvasStatus) -> jax.Array:
        """When a sub-block begins, and when the period is over."""
        return status.entered | status.over


@typed
def sub_block(period: int | None = None) -> Refresh:
    """Exact cache of finished blocks; in the active one, entries outside the active sub-block are kept while it lasts.

    Args:
      period: refresh the block after as many steps as well (knob `refresh_period`).

        fresh = {i: g_i = g};   {i: u - 1 <= u_i <= u} when sub-block g of block u begins and every `period` steps

    For schedules `blocks(8, within=32)`.

    Raises:
      ValueError: for a period below 1.

    Exactness: approximate(period); period 1 is the exact block cache. Needs block-causal attention.

    Source: Fast-dLLM v2 2509.26328.
    """
    return SubBlock(checked_period(period))
