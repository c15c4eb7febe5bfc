"""A policy among the first open positions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import Knobs, Unmask
from jaxdec.diffusion.unmask.around import Around
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Leftmost(Around):
    """See `leftmost`.

    Attributes:
      size: positions that the policy may choose among.
    """

    size: int

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """As the policy, among the first open positions."""
        return self.policy.choose(params, self._first(seen), state, knobs)

    def patience(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """The policy's."""
        return self.policy.patience(params, self._first(seen), knobs)

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """As the policy guesses, the later positions last."""
        first = self._first(seen)
        score, count = self.policy.ahead(params, first, knobs)
        return jnp.where(first.allowed, score, -jnp.inf), count

    def _first(self, seen: Candidates) -> Candidates:
        """The group with no candidates but the first."""
        rank = jnp.cumsum(seen.allowed, axis=1, dtype=jnp.int32)
        return dataclasses.replace(seen, allowed=seen.allowed & (rank <= self.size))


@typed
def leftmost(policy: Unmask, size: int = 16) -> Leftmost:
    """A policy among the first `size` open positions of the active group: a window that slides as it fills.

        commit i  only if  fewer than size masked positions of the group stand before i

    Args:
      policy: among those; a quota goes by the whole group.
      size: positions of the window.

    Raises:
      ValueError: for a size below 1.

    Exactness: heuristic; a size of 1 is left to right. Source: Window-Diffusion 2601.20332 (its active tokens).
    """
    if size < 1:
        raise ValueError(f"a window needs at least 1 position, got {size}")
    return Leftmost(policy, size)
