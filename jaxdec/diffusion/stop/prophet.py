"""Prophet's early commit.

Legend: B rows, W positions of the active group.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import Knobs, knob_default
from jaxdec.diffusion.stop.contract import Stop
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Prophet(Stop):
    """See `prophet`."""

    early: float = knob_default()
    middle: float = knob_default()
    late: float = knob_default()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`early_gap`, `middle_gap`, `late_gap`: in units of logits."""
        gaps = {"early_gap": self.early, "middle_gap": self.middle, "late_gap": self.late}
        return {name: Knob(value) for name, value in gaps.items()}

    def now(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Where the mean gap reaches the limit of the progress made."""
        gap = jnp.where(seen.allowed, seen.own.top - seen.own.second, 0).sum(-1)
        gap = gap / jnp.maximum(seen.left, 1)
        thirds = 3 * (seen.opened - seen.left)  # in integers: a third of the group is exact
        limit = jnp.select(
            [thirds < seen.opened, thirds < 2 * seen.opened],
            [knobs["early_gap"], knobs["middle_gap"]],
            knobs["late_gap"],
        )
        # A gap is infinite where one token is possible.
        return (gap >= limit) & (limit < jnp.inf), state


@typed
def prophet(early: float = 7.5, middle: float = 5.0, late: float = 2.5) -> Prophet:
    """Early commit: all that is left, once the mean gap between the two highest logits is wide enough.

        commit all  iff  mean over masked i of (l_i(first) - l_i(second)) >= limit(share of the group that is committed)

    Args:
      early: limit in the first third of the group, in units of logits (knob `early_gap`).
      middle: limit in the second third (knob `middle_gap`).
      late: limit in the last third (knob `late_gap`).

    Progress is the share of the group that is committed, which is that of the steps at one token a step. Infinite
    limits change nothing, limits of minus infinity fill a group in one step.

    Exactness: heuristic.

    Source: Prophet 2508.19982, over all positions of the group that are still masked.
    """
    return Prophet(early, middle, late)
