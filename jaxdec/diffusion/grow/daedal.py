"""DAEDAL: a canvas as long as the text needs.

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
from jaxdec.diffusion.unmask.in_blocks import leftmost_block
from jaxdec.model import Params


def end_confidence(seen: Candidates, window: jax.Array) -> jax.Array:
    """How sure the model is that the text ends before the canvas does, float32 `[B]`.

        E = 1/K sum of p_i(end) over the last K positions i whose most probable token ends the row

    Args:
      seen: the step; all positions of the canvas.
      window: K, int32 `[B]`; if fewer there are, the others count as 0.
    """
    ends = seen.ends(seen.likeliest) & (seen.allowed | seen.committed)
    behind = jnp.cumsum(ends[:, ::-1], axis=1)[:, ::-1]  # such positions from here on
    counted = ends & (behind <= window[:, None])
    return jnp.where(counted, seen.own.max_prob, 0).sum(-1) / window


@dataclasses.dataclass(frozen=True)
class Daedal(Grow):
    """See `daedal`."""

    start_length: int = knob_default()
    added: int = knob_default()
    window: int = knob_default()
    start_confidence: float = knob_default()
    confidence: float = knob_default()
    below: float = knob_default()
    block: int = knob_default()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`start_length`, `added`, `end_window`, `start_confidence`, `end_confidence`, `expand_below`, `block`."""
        counts = {
            "start_length": self.start_length,
            "added": self.added,
            "end_window": self.window,
            "block": self.block,
        }
        limits = {
            "start_confidence": self.start_confidence,
            "end_confidence": self.confidence,
            "expand_below": self.below,
        }
        return {
            **{name: Knob(value, 1, integer=True) for name, value in counts.items()},
            **{name: Knob(value) for name, value in limits.items()},
        }

    def init(self, params: Params, batch: int, window: int) -> Any:
        """Whether the first length is found, bool `[B]`."""
        return jnp.zeros((batch,), bool)

    def start(self, knobs: Knobs) -> jax.Array:
        """The knob."""
        return knobs["start_length"]

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
        """Longer as a whole until the length is found, then where a position is least sure."""
        sure = end_confidence(seen, knobs["end_window"])
        found = (may_end & (sure >= knobs["start_confidence"])) | (room <= 0)
        more = jnp.where(state | found, 0, knobs["added"])
        ends = jnp.where(~state & found, jnp.clip(knobs["end_window"] // 2, 1, room), 0)
        _, inside = leftmost_block(seen.allowed, knobs["block"])
        score = jnp.where(seen.allowed & inside & ~reveal, seen.own.max_prob, jnp.inf)
        unsure = score.min(-1) < knobs["expand_below"]
        expands = state & unsure & (room > 0) & (sure < knobs["end_confidence"])
        at = jnp.where(expands, jnp.argmin(score, axis=-1), -1).astype(jnp.int32)
        return Growth(~state, at, knobs["added"], more, ends), state | found


@typed
def daedal(
    start_length: int = 64,
    *,
    added: int = 8,
    window: int = 32,
    start_confidence: float = 0.5,
    confidence: float = 0.9,
    below: float = 0.1,
    block: int = 32,
) -> Daedal:
    """DAEDAL: a canvas begins short, is lengthened until the model sees its end, and later where it is least sure.

        E = 1/K sum of p_i(end) over the last K positions i whose most probable token ends the row
        1. while E < start_confidence: F masks more, nothing is committed;   then K / 2 end tokens behind (at least one)
        2. in each step, if E < confidence: of the masks of the leftmost open block that are not committed, the one of
           least max p_i, if that is below `below`, becomes F masks

    to `max_new_tokens` at most: what grows over that is cut off from behind.

    Args:
      start_length: positions at first (knob).
      added: F, masks that are added at a time (knob).
      window: K, end tokens that are looked for (knob `end_window`).
      start_confidence: E from which on the first length is enough (knob); 0 or less begins to decode at once.
      confidence: E from which on no mask is expanded (knob `end_confidence`).
      below: the probability below which a mask is expanded (knob `expand_below`); 0 for never.
      block: positions of a block (knob), that of `unmask.in_blocks`, which DAEDAL decodes by:
        `denoise(model, unmask=unmask.in_blocks(unmask.threshold()), grow=daedal())`.

    What ends a row is what ends it in the request: without an end token, or with one that is banned, a canvas grows to
    its limit first. Schedules, caches and branches go by positions, and here tokens move: `schedules.whole()`,
    `refresh.none()`, one branch, noise by position and step.

    Raises:
      ValueError: for counts below 1.

    Exactness: heuristic. With `start_confidence` and `below` of 0, decoding of `start_length` masks and K / 2 end
    tokens.

    Source: DAEDAL 2508.00819.
    """
    for name, count in (
        ("start_length", start_length),
        ("added", added),
        ("window", window),
        ("block", block),
    ):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    return Daedal(start_length, added, window, start_confidence, confidence, below, block)
