"""As many positions as their worst score allows."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates, Score, check_score, ranked
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Factor(Unmask):
    """See `factor`."""

    factor: float = knob_default()
    by: Score = "max_prob"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`factor`."""
        return {"factor": Knob(self.factor, 0)}

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """The longest run of the best."""
        score = seen.score(self.by)
        places = ranked(score, seen.allowed)
        fits = seen.allowed & ((places + 2) * (1 - score) <= knobs["factor"][:, None])
        # The largest n whose own n-th score passes; earlier ones are higher, and are taken along.
        count = jnp.max(jnp.where(fits, places + 1, 1), axis=-1)
        return seen.allowed & (places < count[:, None]), state


@typed
def factor(factor: float = 1.0, *, by: Score = "max_prob") -> Factor:
    """The largest n with `(n + 1) (1 - c_n) <= f`, c_n the n-th highest score; at least one.

    Args:
      factor: f (knob).
      by: c, the score, in [0, 1].

    Raises:
      ValueError: for an unknown score.

    Exactness: heuristic; see `threshold` for what the bound means.

    Source: Fast-dLLM 2505.22618 (token_prob, which is max_prob at temperature 0).
    """
    check_score(by)
    return Factor(factor, by)
