"""Prophet's early commit.

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
from jaxdec.diffusion.stop.contract import Stop
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Prophet(Stop):
    """See `prophet`.

    Attributes:
      told: whether there is an answer to watch.
    """

    early: float = knob_default()
    middle: float = knob_default()
    late: float = knob_default()
    told: bool = False
    answer: tuple[int, int] = dataclasses.field(default=(0, 0), compare=False)

    @property
    def knobs(self) -> dict[str, Knob]:
        """`early_gap`, `middle_gap`, `late_gap`: in units of logits; `answer_start`, `answer_stop` where told."""
        gaps = {"early_gap": self.early, "middle_gap": self.middle, "late_gap": self.late}
        own = {name: Knob(value) for name, value in gaps.items()}
        if self.told:
            for name, value in zip(("answer_start", "answer_stop"), self.answer, strict=True):
                own[name] = Knob(value, 0, integer=True)
        return own

    def init(self, params: Params, batch: int, window: int) -> jax.Array:
        """Whether the canvas has been ended, bool `[B]`."""
        return jnp.zeros((batch,), bool)

    def renew(self, params: Params, state: jax.Array, fresh: jax.Array) -> jax.Array:
        """A canvas that has been ended stays so."""
        return state

    def now(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Where the mean gap reaches the limit of the progress made, and from then on."""
        watched = seen.allowed
        if self.told:
            place = seen.places - seen.canvas_progress.begin[:, None]
            inside = place >= knobs["answer_start"][:, None]
            inside &= place < knobs["answer_stop"][:, None]
            watched = (seen.allowed | seen.committed) & inside
        gap = jnp.where(watched, seen.own.top - seen.own.second, 0).sum(-1)
        gap = gap / jnp.maximum(watched.sum(-1), 1)
        size = seen.canvas_progress.size
        thirds = 3 * (
            size - seen.canvas_progress.left
        )  # in integers: a third of the canvas is exact
        limit = jnp.select(
            [thirds < size, thirds < 2 * size],
            [knobs["early_gap"], knobs["middle_gap"]],
            knobs["late_gap"],
        )
        # A gap is infinite where one token is possible.
        over = state | (watched.any(-1) & (gap >= limit) & (limit < jnp.inf))
        return over, over


@typed
def prophet(
    early: float = 7.5,
    middle: float = 5.0,
    late: float = 2.5,
    *,
    answer: tuple[int, int] | None = None,
) -> Prophet:
    """Early commit: all that is left, once the mean gap between the two highest logits is wide enough.

        commit all  iff  mean over watched i of (l_i(first) - l_i(second)) >= limit(share of the canvas committed)

    Args:
      early: limit in the first third of the canvas, in units of logits (knob `early_gap`).
      middle: limit in the second third (knob `middle_gap`).
      late: limit in the last third (knob `late_gap`).
      answer: where the answer stands, `(start, stop)` counted from the end of the prompt (knobs `answer_start` and
        `answer_stop`): its positions are watched, committed ones too. Without one, those of the active group that are
        still masked.

    Raises:
      ValueError: for an answer that does not end behind its start.

    Progress is the share of the whole canvas that is committed, which is that of the steps at one token a step. The end
    is that of the canvas: what has been scored is committed now, and every group after it in its first step. With one
    group, that of `schedules.whole()`, nothing is scored again: published block decoding is
    `unmask.in_blocks(policy, size)` there. Infinite limits change nothing, limits of minus infinity fill each group in
    one step.

    Exactness: heuristic.

    Source: Prophet 2508.19982.
    """
    if answer is not None and (len(answer) != 2 or not 0 <= answer[0] < answer[1]):
        raise ValueError(
            f"an answer must be two places, start at 0 or later and end behind its start, got {answer}"
        )
    return Prophet(early, middle, late, answer is not None, answer or (0, 0))
