"""Adaptive acceleration of Saber."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates, top
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Saber(Unmask):
    """See `saber`."""

    minimum: int = knob_default()
    by = "max_prob"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`minimum`: n."""
        return {"minimum": Knob(self.minimum, 1, integer=True)}

    def init(self, params: Params, batch: int, window: int) -> Any:
        """The sum of the confidences at which tokens were committed, and their number."""
        return jnp.zeros((batch,), jnp.float32), jnp.zeros((batch,), jnp.int32)

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """All above the mean of the past, and the best n."""
        total, count = state
        score = seen.score("max_prob")
        mean = jnp.where(count > 0, total / jnp.maximum(count, 1), 1.0)
        reveal = top(score, seen.allowed, knobs["minimum"])
        reveal |= seen.allowed & (score > mean[:, None])
        return reveal, (
            total + jnp.where(reveal, score, 0).sum(-1),
            count + reveal.sum(-1, dtype=jnp.int32),
        )


@typed
def saber(minimum: int = 2) -> Saber:
    """Adaptive acceleration: every position surer than the tokens of the past were on average, and the best n.

        commit i  iff  max p_i > mean of max p over all that were committed before,  or i is among the n best

    In the first step of a group nothing was, and the n best are committed.

    Args:
      minimum: n (knob).

    Together with `diffusion.backtracking` this is Saber; alone it never takes a token back.

    Raises:
      ValueError: for n below 1.

    Exactness: heuristic.

    Source: 2510.18165.
    """
    if minimum < 1:
        raise ValueError(f"at least 1 position is committed in a step, got {minimum}")
    return Saber(minimum)
