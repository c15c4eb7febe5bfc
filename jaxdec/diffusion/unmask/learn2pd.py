"""A trained filter of tokens that are final, beside a quota.

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
from jaxdec.diffusion.unmask.around import Around
from jaxdec.diffusion.unmask.learned import sureness
from jaxdec.diffusion.unmask.quota import quota
from jaxdec.model import Params, PositionHead, Sureness


def in_windows(head: PositionHead, params: Params, seen: Sureness) -> jax.Array:
    """Logits of a head that reads w positions at once, of a group from its first position on, float32 `[B, W]`.

    Args:
      head: with a window.
      params: its own.
      seen: the group.
    """
    assert head.window is not None
    batch, size = seen.confidence.shape
    count = -(-size // head.window)
    first = jnp.argmax(seen.there, axis=1)[:, None]
    index = first + jnp.arange(count * head.window)

    def cut(x: jax.Array) -> jax.Array:
        if x.ndim == 1:
            return jnp.repeat(x, count)
        own = jnp.take_along_axis(x, jnp.minimum(index, size - 1), axis=1)
        return jnp.where(index < size, own, 0).astype(x.dtype).reshape(-1, head.window)

    logits = head(params, Sureness(*map(cut, seen))).reshape(batch, -1)
    back = jnp.arange(size) - first
    return jnp.take_along_axis(logits, jnp.maximum(back, 0), axis=1)


@dataclasses.dataclass(frozen=True)
class Learn2PD(Around):
    """See `learn2pd`."""

    head: PositionHead
    threshold: float = knob_default()
    name: str = "filter"  # type: ignore[assignment]

    @property
    def knobs(self) -> dict[str, Knob]:
        """`filter_threshold`, and `steps`."""
        return {**self.policy.knobs, "filter_threshold": Knob(self.threshold, 0)}

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """What the filter lets pass, and the quota."""
        reveal, state = self.policy.choose(None, seen, state, knobs)
        chance = jax.nn.sigmoid(in_windows(self.head, params, sureness(seen)))
        return reveal | seen.allowed & (chance > knobs["filter_threshold"][:, None]), state


@typed
def learn2pd(
    head: PositionHead, threshold: float = 0.9, *, steps: int = 0, name: str = "filter"
) -> Learn2PD:
    """Learn2PD: every position whose token a trained filter takes for final, and a quota of the most probable ones.

        commit i  iff  sigmoid(f(c)_i) > theta  or  i is among the q most probable

    c are the probabilities of the most probable tokens at all positions of a block, committed ones too; q is the quota
    of `unmask.quota("max_prob")` in the step.

    Args:
      head: f, which reads a block of w positions at once, such as that of the checkpoint `tasks-finality`. A group is
        read from its first position on, one of more than w positions in pieces; blocks of w are
        `schedules.blocks(w)`, or `unmask.in_blocks(learn2pd(...), w)` on a whole canvas.
      threshold: theta (knob `filter_threshold`); 1 leaves the quota alone.
      steps: of the quota, of each group (knob); 0 for one position a step.
      name: of the head's parameters in the `params` of `generate`.

    Raises:
      ValueError: for a head that reads any number of positions, a threshold below 0, or fewer steps than 0.

    Exactness: heuristic; with a threshold of 1 the quota, token for token.

    Source: Learn2PD 2509.25188, its filter (trained by `training.finality`); the end of the text that it predicts is
    `diffusion.end_of_text`.
    """
    if head.window is None:
        raise ValueError("a filter reads blocks of one size; this head reads any number")
    if threshold < 0 or steps < 0:
        raise ValueError(f"threshold and steps must be at least 0, got {threshold} and {steps}")
    return Learn2PD(quota("max_prob", steps=steps), head, threshold, name)
