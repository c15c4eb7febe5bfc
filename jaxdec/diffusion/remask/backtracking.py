"""Saber's backtracking.

Legend: B rows, W positions of the active group.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates, top
from jaxdec.diffusion.contract import Knobs, knob_default
from jaxdec.diffusion.remask.contract import Remask
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Backtracking(Remask):
    """See `backtracking`."""

    minimum: int = knob_default()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`minimum`: n, that of the policy."""
        return {"minimum": Knob(self.minimum, 1, integer=True)}

    def init(self, params: Params, batch: int, window: int) -> Any:
        """Each position's confidence in the step before."""
        return jnp.zeros((batch, window), jnp.float32)

    def take_back(
        self, params: Params, seen: Candidates, reveal: jax.Array, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Those whose confidence fell most."""
        confidence = seen.score("max_prob")
        minimum, revealed = knobs["minimum"], reveal.sum(-1)
        most = jnp.maximum(minimum, revealed)
        count = jnp.maximum(minimum // 2, -(-most // 8))
        # The published bound is one less than max(n, revealed); one less than what was revealed always makes progress.
        count = jnp.clip(count, 0, jnp.maximum(revealed - 1, 0))
        fall = state - confidence
        # The step that completes a group ends it: there is nothing left to look at again.
        open_after = (seen.allowed & ~reveal).any(-1)
        count = jnp.where(open_after & (seen.step > 0), count, 0)
        return top(fall, seen.committed | reveal, count), confidence


@typed
def backtracking(minimum: int = 2) -> Backtracking:
    """Masks again the `max(n // 2, ceil(r / 8))` tokens whose position lost most confidence, r of them committed.

    Args:
      minimum: n (knob), as in `unmask.saber`.

    Differs from the published rule where fewer than n positions are left: it then takes back fewer than it commits, so
    that every step makes progress; and it takes none back in the first step, when nothing has fallen yet. Confidence is
    that of the position's most probable token, as published.

    Exactness: heuristic.

    Source: Saber 2510.18165.
    """
    return Backtracking(minimum)
