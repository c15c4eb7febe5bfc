"""The end of a text, predicted: a canvas that is cut off behind it.

Legend: B rows, W positions of the active group.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import Knobs, knob_default
from jaxdec.diffusion.grow.contract import Grow, Growth
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class EndOfText(Grow):
    """See `end_of_text`."""

    confidence: float = knob_default()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`cut_confidence`."""
        return {"cut_confidence": Knob(self.confidence)}

    def start(self, knobs: Knobs) -> jax.Array:
        """All of it."""
        return jnp.full(knobs["cut_confidence"].shape, jnp.iinfo(jnp.int32).max, jnp.int32)

    def grow(
        self,
        params: Params,
        seen: Candidates,
        reveal: jax.Array,
        room: jax.Array,
        may_end: jax.Array,
        state: Any,
        knobs: Knobs,
    ) -> tuple[Growth, Any]:
        """Shorter where an end stands, or is expected."""
        index = jnp.arange(seen.allowed.shape[1], dtype=jnp.int32)
        there = seen.allowed | seen.committed
        stands = reveal & seen.ends(seen.tokens)
        sure = seen.score("max_prob")
        expected = seen.allowed & ~reveal & seen.ends(seen.likeliest)
        expected &= sure >= knobs["cut_confidence"][:, None]
        best = jnp.argmax(jnp.where(expected, sure, -1.0), axis=-1)
        at = jnp.where(stands.any(-1), jnp.argmax(stands, axis=-1), best)
        found = stands.any(-1) | expected.any(-1)
        behind = (there & (index > at[:, None])).sum(-1, dtype=jnp.int32)
        none = jnp.zeros_like(room)
        return Growth(
            hold=jnp.zeros(room.shape, bool),
            at=none - 1,
            masks=none + 1,
            more=jnp.where(found & may_end, -behind, 0),
            ends=none,
        ), state


@typed
def end_of_text(confidence: float = 0.0) -> EndOfText:
    """The end-of-text prediction of Learn2PD: a canvas is cut off behind the end that the model sees.

        e = the first position committed in this step whose token ends the row;  without one,
            the masked position of the highest max p_i among those whose most probable token ends the row
        nothing exists behind e from the next step on

    What is cut off is neither filled nor seen by what is left. Position e itself stays a mask until the policy commits
    it; a row whose canvas is full and does not end its text is then out of room (`Status.CACHE_FULL`).

    Args:
      confidence: the least max p of a mask that an end is expected at (knob `cut_confidence`); 0 as published: an
        early guess, however unsure, cuts the canvas. Above 1 only an end that was committed does.

    For one group without a cache, as all rules that change the length of a canvas; blocks are `unmask.in_blocks`.
    Without an end token, or with one that is banned, nothing is cut.

    Exactness: heuristic; what stands behind an end is not seen any more, so that the text before it may be another.

    Source: Learn2PD + EoTP 2509.25188. It looks at what its filter committed; here at all that the policy did.
    """
    return EndOfText(confidence)
