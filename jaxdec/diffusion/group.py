"""The active group in a step, and what its parts see of it.

Legend: B rows, L positions of the canvas, W positions of the active group.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdec.decoding import Scored, Settings
from jaxdec.diffusion.candidates import Candidates, Progress, draw
from jaxdec.diffusion.canvas import Canvas, GroupState, compact, put, take
from jaxdec.diffusion.fuse import Standing
from jaxdec.diffusion.refresh import CanvasStatus
from jaxdec.diffusion.schedules import Schedule
from jaxdec.diffusion.state import DenoiseState
from jaxdec.model import Params
from jaxdec.sampling import History, Purpose, key_at
from pallas_kernels.unmask import Unmasked


@dataclasses.dataclass(frozen=True)
class ActiveGroup:
    """What does not change while the group takes a step.

    Attributes:
      places: int32 `[B, W]`, positions.
      there: bool `[B, W]`, whether there is such a position.
      given: bool `[B, W]`, those of the prompt.
      leading: bool `[B, W]`, those after one of another unit.
      opened: int32 `[B]`, positions that the group had to fill.
      settings: of the request.
      history: the text before each position, and counts of what is committed outside of the group.
      keys: row keys `[B]`.
      by_step: whether noise is by step as well as by position.
      canvas_progress: of the canvas, with what is left outside of the group alone.
      hypotheses: H, adjacent rows of one prompt.
      canvas: everything as it was before the forward.
    """

    places: jax.Array
    there: jax.Array
    given: jax.Array
    leading: jax.Array
    opened: jax.Array
    settings: Settings
    history: History
    keys: jax.Array
    by_step: bool
    canvas_progress: Progress
    hypotheses: int
    canvas: Canvas

    def standing(self, group: GroupState) -> Standing:
        """What a fusion looks at."""
        there = self.there & ~self.given
        masked = there & ~group.committed
        return Standing(masked, group.tokens, there, self.opened, self.settings, self.hypotheses)

    def drawn(self, scored: Scored, group: GroupState, keys: Callable[[], jax.Array]) -> Unmasked:
        """A token everywhere; `keys` makes the keys `[B, W]` of the noise."""
        counted = self.history.add(group.tokens, group.committed & ~self.given)
        return draw(self.settings.warp, scored.logits, counted, keys)

    def see(
        self, scored: Scored, group: GroupState, step: jax.Array, steps: jax.Array
    ) -> Candidates:
        """Draws a token everywhere, and says what the parts look at.

        Args:
          scored: the forward over the group, `[B, W, ...]`.
          group: its positions.
          step: int32 `[B]`, steps taken in this group.
          steps: int32 `[B]`, steps taken in all.
        """
        again = (steps[:, None],) if self.by_step else ()
        keys = lambda: key_at(self.keys, Purpose.TOKEN, self.places, *again)
        drawn = self.drawn(scored, group, keys)
        allowed = self.there & ~group.committed
        left = self.canvas_progress.left + allowed.sum(1, dtype=jnp.int32)
        return Candidates(
            own=drawn.own,
            warped=drawn.warped,
            tokens=jnp.where(group.committed, group.tokens, drawn.tokens),
            places=self.places,
            allowed=allowed,
            committed=group.committed & ~self.given,
            leading=self.leading,
            step=step,
            opened=self.opened,
            steps=steps,
            keys=self.keys,
            greedy=self.settings.warp.greedy(len(self.places)),
            canvas_progress=self.canvas_progress._replace(left=left),
            scored=scored,
            drawn=drawn.tokens,
            hypotheses=self.hypotheses,
            settings=self.settings,
            canvas=self.canvas,
        )


def cut(
    state: DenoiseState,
    status: CanvasStatus,
    params: Params,
    scored: Scored,
    schedule: Schedule,
    window: int,
) -> tuple[DenoiseState, CanvasStatus]:
    """Groups that have just begun end where a schedule says, and what was cut off begins anew.

    Args:
      state: before the step.
      status: where each row stands.
      params: by part.
      scored: the forward over the group in all branches, `[B, D, W, ...]`.
      schedule: says where, and numbers the groups behind.
      window: W.
    """
    canvas = state.canvas
    places, there, _ = compact(status.active, window)
    masked = there & ~take(canvas.committed, places)
    first = jax.tree.map(lambda x: x[:, 0], scored)
    kept = schedule.cut(schedule.own(params), first, there, masked, state.settings.knobs)
    kept = jnp.clip(kept, jnp.argmax(masked, axis=-1) + 1, window)
    last = jnp.take_along_axis(places, kept[:, None] - 1, axis=1)
    at = jnp.broadcast_to(jnp.arange(canvas.tokens.shape[1], dtype=jnp.int32), canvas.groups.shape)
    behind = (at > last) & (status.entered & state.rows.running)[:, None]
    after = status.group + schedule.recut(at, state.rows.prompt_length[:, None], last + 1)
    groups = jnp.where(behind, after, canvas.groups).astype(jnp.int32)
    state = dataclasses.replace(state, canvas=dataclasses.replace(canvas, groups=groups))
    return state, status._replace(groups=groups)


def active_group(
    state: DenoiseState, status: CanvasStatus, window: int, keys: jax.Array, by_step: bool
) -> tuple[ActiveGroup, GroupState]:
    """The active group of every row, and what stands there.

    Args:
      state: before the step.
      status: where each row stands.
      window: W.
      keys: row keys `[B]`.
      by_step: whether noise is by step as well as by position.
    """
    rows, canvas = state.rows, state.canvas
    places, there, _ = compact(status.active, window)
    group = GroupState(
        tokens=take(canvas.tokens, places),
        committed=take(canvas.committed, places) & there,
        steps=take(canvas.steps, places),
        log_probs=take(canvas.log_probs, places),
        raw_log_probs=take(canvas.raw_log_probs, places),
        top=jax.tree.map(lambda x: take(x, places), canvas.top),
    )
    history = rows.history.at(places)
    if history.generated is not None:
        # Penalties count what is committed, wherever on the canvas it stands.
        outside = canvas.committed & (status.groups != status.group)
        outside &= jnp.arange(canvas.tokens.shape[1]) >= rows.prompt_length[:, None]
        history = dataclasses.replace(history, generated=jnp.zeros_like(history.generated))
        history = history.add(canvas.tokens, outside)
    masked = (there & ~group.committed).sum(1, dtype=jnp.int32)
    own = take(canvas.units, places)
    active = ActiveGroup(
        places=places,
        there=there,
        given=there & (places < rows.prompt_length[:, None]),
        leading=there & ((places == 0) | (own != take(canvas.units, places - 1))),
        opened=jnp.where(status.entered, masked, state.counters.opened),
        settings=state.settings,
        history=history,
        keys=keys,
        by_step=by_step,
        canvas_progress=Progress(
            begin=rows.prompt_length,
            size=canvas.end - rows.prompt_length,
            left=canvas.masked.sum(1, dtype=jnp.int32) - masked,
        ),
        hypotheses=state.hypotheses,
        canvas=canvas,
    )
    return active, group


def written(canvas: Canvas, active: ActiveGroup, group: GroupState) -> Canvas:
    """The canvas with the group as it is now."""
    update = lambda old, new: put(old, active.places, new, active.there)
    new = {
        name: jax.tree.map(update, getattr(canvas, name), x) for name, x in group._asdict().items()
    }
    return dataclasses.replace(canvas, **new)
