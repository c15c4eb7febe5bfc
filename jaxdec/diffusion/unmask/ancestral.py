"""Ancestral sampling: each position by its own coin."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Exactness, Knob
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Ancestral(Unmask):
    """See `ancestral`."""

    steps: int = knob_default()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`steps`: S."""
        return {"steps": Knob(self.steps, 1, integer=True)}

    @property
    def exactness(self) -> Exactness:
        """Approaches the first-hitting law with more steps."""
        return Exactness.APPROXIMATE

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Each position by its own coin."""
        chance = jnp.float32(1) / jnp.maximum(knobs["steps"] - seen.step, 1)
        return seen.allowed & (seen.coins() < chance[:, None]), state

    def patience(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """All S steps: no coin may show heads, but in the last step, which commits all that is left."""
        return knobs["steps"]


@typed
def ancestral(steps: int = 64) -> Ancestral:
    """Ancestral sampling: in step i of S each masked position is committed with probability `1 / (S - i)`.

    That is `(t - s) / t` on the linear time grid. The coin is tossed apart from the token, so that no tiny probability
    is ever compared with noise of limited range.

    Args:
      steps: S, of each group (knob).

    Raises:
      ValueError: for fewer steps than 1.

    Exactness: approximate(steps); converges to `first_hitting`.

    Source: MDLM 2406.07524; Dream's `origin`.
    """
    if steps < 1:
        raise ValueError(f"ancestral sampling needs at least 1 step, got {steps}")
    return Ancestral(steps)
