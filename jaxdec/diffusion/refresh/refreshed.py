"""What approximate rules share, and the period of a refresh."""

import dataclasses

import jax

from jaxdec.diffusion.refresh.contract import CanvasStatus, Refresh
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Refreshed(Refresh):
    """Computes everything again when a group begins, and when its period is over."""

    exact = False

    def wide(self, params: Params, status: CanvasStatus) -> jax.Array:
        """Everything."""
        return status.exists

    def due(self, params: Params, status: CanvasStatus) -> jax.Array:
        """When a group begins, and when the period is over."""
        return status.entered | status.over


def checked_period(period: int | None) -> int | None:
    """The period, if it is legal."""
    if period is not None and period < 1:
        raise ValueError(f"a refresh period is at least 1 step, got {period}")
    return period
