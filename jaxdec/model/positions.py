"""Heads that look at how sure a model is of each position of a canvas, and at nothing else.

Legend: B rows, W positions of a group.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxdec.model.contract import Params


class Sureness(NamedTuple):
    """What a head sees of a step.

    Attributes:
      confidence: float32 `[B, W]`, the probability of the most probable token, where a token is committed too.
      masked: bool `[B, W]`, positions that are to be filled.
      there: bool `[B, W]`, those and the ones that were filled; others are not looked at.
      time: float32 `[B]`, from 1 in the first step of a group down to 0.
    """

    confidence: jax.Array
    masked: jax.Array
    there: jax.Array
    time: jax.Array


@dataclasses.dataclass(frozen=True)
class PositionHead:
    """A head that gives every position a logit, such as of being committed; compares by value.

    Attributes:
      logit: `(params, Sureness) -> float32 [B, W]`.
      window: the number of positions that it reads at once, if it takes no other; else None.
    """

    logit: Callable[..., jax.Array]
    window: int | None = None

    def __call__(self, params: Params, seen: Sureness) -> jax.Array:
        """Logits, float32 `[B, W]`."""
        return self.logit(params, seen)
