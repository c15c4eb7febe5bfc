"""What approximate rules share, and the period of a refresh."""

import dataclasses

import jax

from jaxdec.diffusion.refresh.contract import Facts, Refresh


@dataclasses.dataclass(frozen=True)
class Refreshed(Refresh):
    """Computes everything again when a group begins, and when its period is over."""

    kept = True
    exact = False

    def wide(self, facts: Facts) -> jax.Array:
        """Everything."""
        return facts.exists

    def refresh(self, facts: Facts) -> jax.Array:
        """When a group begins, and when the period is over."""
        return facts.entered | facts.over


def checked_period(period: int | None) -> int | None:
    """The period, if it is legal."""
    if period is not None and period < 1:
        raise ValueError(f"a refresh period is at least 1 step, got {period}")
    return period
