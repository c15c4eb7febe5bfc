"""Every position above a threshold."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates, Score, check_score, top
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Threshold(Unmask):
    """See `threshold`."""

    threshold: float = knob_default()
    by: Score = "max_prob"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`threshold`."""
        return {"threshold": Knob(self.threshold)}

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """All above the threshold, and the best."""
        score = seen.score(self.by)
        best = top(score, seen.allowed, jnp.ones_like(seen.step))
        return best | seen.allowed & (score > knobs["threshold"][:, None]), state

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """The next best one by one."""
        return seen.score(self.by), jnp.ones_like(seen.step)


@typed
def threshold(threshold: float = 0.9, *, by: Score = "max_prob") -> Threshold:
    """Every position whose score exceeds a threshold, and always the best one.

        commit i  iff  c_i > tau  or  c_i is the highest score

    Args:
      threshold: tau (knob); 1 commits one position a step. For `by="entropy"` minus a number of nats, such as -0.5.
      by: c, what is compared.

    Raises:
      ValueError: for an unknown score.

    Exactness: heuristic. If each of n tokens has a probability of at least 1 - e, and (n + 1) e <= 1, the most
    probable tokens one by one are the most probable joint ones; nothing is promised for sampling.

    Source: Fast-dLLM 2505.22618 (token_prob, which is max_prob at temperature 0); dParallel 2509.26488 (entropy).
    """
    check_score(by)
    return Threshold(threshold, by)
