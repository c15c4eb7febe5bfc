"""No cache."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.diffusion.refresh.contract import CanvasStatus, Refresh
from jaxdec.diffusion.schedules import Schedule
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class NoCache(Refresh):
    """See `none`."""

    kept = False

    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """Everything."""
        return length, length

    def narrow(self, params: Params, status: CanvasStatus) -> jax.Array:
        """Everything."""
        return status.exists

    def wide(self, params: Params, status: CanvasStatus) -> jax.Array:
        """Everything."""
        return status.exists

    def due(self, params: Params, status: CanvasStatus) -> jax.Array:
        """Never: there is nothing more to compute."""
        return jnp.zeros_like(status.first)


def none() -> NoCache:
    """No cache: every step computes every position. The reference.

    Exactness: exact.
    """
    return NoCache()
