"""The exact cache of finished blocks."""

import dataclasses

import jax

from jaxdec.diffusion.refresh.contract import CanvasStatus, Refresh
from jaxdec.diffusion.schedules import Schedule
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Block(Refresh):
    """See `block`."""

    needs_blocks = True

    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """A block, and two."""
        unit = schedule.largest(room)[1]
        return min(unit, length), min(2 * unit, length)

    def prefill(self, params: Params, status: CanvasStatus) -> jax.Array | None:
        """All finished blocks of the prompt."""
        return status.exists & (status.units < status.unit)

    def narrow(self, params: Params, status: CanvasStatus) -> jax.Array:
        """The active block."""
        return status.exists & (status.units == status.unit)

    def wide(self, params: Params, status: CanvasStatus) -> jax.Array:
        """And the block before it, which has just been finished."""
        return status.exists & (status.units <= status.unit) & (status.units >= status.unit - 1)

    def due(self, params: Params, status: CanvasStatus) -> jax.Array:
        """When a block begins; the first one follows the prefill."""
        return status.entered_unit & ~status.first


def block() -> Refresh:
    """Exact cache of a block-causal model: finished blocks are computed once, a step computes the active block.

        fresh = {i: u_i = u};   {i: u - 1 <= u_i <= u} when block u begins

    The entries of a finished block are computed in the first step of the next one, in the same forward.

    Exactness: exact; needs block-causal attention.

    Source: BD3-LM 2503.09573; SDAR 2510.06303.
    """
    return Block()
