"""A threshold or a quota."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates, Score, check_score, top
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.diffusion.unmask.quota import quota_size
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class DynamicThreshold(Unmask):
    """See `dynamic_threshold`."""

    threshold: float = knob_default()
    steps: int = knob_default()
    by: Score = "warped_token_prob"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`threshold` and `steps`."""
        return {"threshold": Knob(self.threshold), "steps": Knob(self.steps, 0, integer=True)}

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """All above the threshold if they are enough, else the quota."""
        score = seen.score(self.by)
        count = quota_size(seen, knobs["steps"])
        high = seen.allowed & (score > knobs["threshold"][:, None])
        enough = high.sum(-1) >= count
        return jnp.where(enough[:, None], high, top(score, seen.allowed, count)), state


@typed
def dynamic_threshold(
    threshold: float = 0.9, *, steps: int = 0, by: Score = "warped_token_prob"
) -> DynamicThreshold:
    """Every position above a threshold if they are at least the step's even quota, else the best of that quota.

        H = {i: c_i > tau};   commit H  if  |H| >= n,  else the n best;   n = m // S, and one more in the first m mod S

    with m positions that the group had to fill.

    Args:
      threshold: tau (knob); 1 gives `quota(by, steps=steps)`.
      steps: S, of each group (knob); 0 for a quota of one.
      by: c, what is compared. The published score is the warped probability of the drawn token, which looks at the
        draw. A row at temperature 0 compares `max_prob` instead, since that probability is then 1 everywhere and all
        would be committed at once; with a quota of one it is `threshold` there.

    Raises:
      ValueError: for an unknown score.

    Exactness: heuristic.

    Source: SDAR 2510.06303.
    """
    check_score(by)
    return DynamicThreshold(threshold, steps, by)
