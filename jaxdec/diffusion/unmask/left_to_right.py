"""One position a step, the leftmost."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness
from jaxdec.diffusion.candidates import Candidates, top
from jaxdec.diffusion.contract import Knobs, Unmask
from jaxdec.model import Params


def left_to_right() -> "LeftToRight":
    """One position a step, the leftmost.

    Exactness: token-identical to plain decoding of the model's law from left to right, with the same key.
    """
    return LeftToRight()


@dataclasses.dataclass(frozen=True)
class LeftToRight(Unmask):
    """See `left_to_right`."""

    @property
    def exactness(self) -> Exactness:
        """Sequential decoding of the canvas."""
        return Exactness.TOKEN_IDENTICAL

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """The leftmost."""
        return top(seen.score("left_to_right"), seen.allowed, jnp.ones_like(seen.step)), state

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """The next ones."""
        return seen.score("left_to_right"), jnp.ones_like(seen.step)
