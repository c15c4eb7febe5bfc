"""Adaptive acceleration of Saber."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates, top
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.model import Params


class Past(NamedTuple):
    """The confidences at which the positions of the canvas were committed, the last time each.

    Attributes:
      total: float32 `[B]`, their sum in the groups before.
      number: int32 `[B]`, how many they are.
      confidence: float32 `[B, W]`, in the active group.
      known: bool `[B, W]`, positions of it that were ever committed.
    """

    total: jax.Array
    number: jax.Array
    confidence: jax.Array
    known: jax.Array

    @property
    def all_total(self) -> jax.Array:
        """Their sum on the whole canvas."""
        return self.total + jnp.where(self.known, self.confidence, 0).sum(-1)

    @property
    def all_count(self) -> jax.Array:
        """Their number."""
        return self.number + self.known.sum(-1, dtype=jnp.int32)


@dataclasses.dataclass(frozen=True)
class Saber(Unmask):
    """See `saber`."""

    minimum: int = knob_default()
    by = "max_prob"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`minimum`: n."""
        return {"minimum": Knob(self.minimum, 1, integer=True)}

    def init(self, params: Params, batch: int, window: int) -> Past:
        """Nothing was committed."""
        return Past(
            total=jnp.zeros((batch,), jnp.float32),
            number=jnp.zeros((batch,), jnp.int32),
            confidence=jnp.zeros((batch, window), jnp.float32),
            known=jnp.zeros((batch, window), bool),
        )

    def renew(self, params: Params, state: Past, fresh: Past) -> Past:
        """Those of the group before count on."""
        return fresh._replace(total=state.all_total, number=state.all_count)

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """All above the mean of the past, and the best n."""
        score, count = seen.score("max_prob"), state.all_count
        mean = jnp.where(count > 0, state.all_total / jnp.maximum(count, 1), 1.0)
        reveal = top(score, seen.allowed, knobs["minimum"])
        reveal |= seen.allowed & (score > mean[:, None])
        return reveal, state._replace(
            confidence=jnp.where(reveal, score, state.confidence), known=state.known | reveal
        )


@typed
def saber(minimum: int = 2) -> Saber:
    """Adaptive acceleration: every position surer than the tokens of the past were on average, and the best n.

        commit i  iff  max p_i > mean of max p over all that were committed before,  or i is among the n best

    In the first step nothing was, and the n best are committed. The mean is over the whole canvas, the groups before
    included; a position that is taken back and committed again counts once, with its last confidence.

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
