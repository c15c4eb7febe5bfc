"""The active group in a step: what its parts see of it, and what one static step commits.

Legend: B rows, L positions of the canvas, W positions of the active group.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.decoding import Scored, Settings
from jaxdec.diffusion.candidates import Candidates, Progress, best, draw
from jaxdec.diffusion.canvas import Canvas, GroupState, at_token, compact, put, take
from jaxdec.diffusion.contract import Knobs, Unmask
from jaxdec.diffusion.fuse import Fuse, Standing
from jaxdec.diffusion.refresh import CanvasStatus
from jaxdec.diffusion.remask import Remask
from jaxdec.diffusion.schedules import Schedule
from jaxdec.diffusion.state import DenoiseState, PartStates
from jaxdec.diffusion.stop import Stop
from jaxdec.model import Params
from jaxdec.sampling import History, Purpose, key_at, top_tokens
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
    )
    return active, group


def written(canvas: Canvas, active: ActiveGroup, group: GroupState) -> Canvas:
    """The canvas with the group as it is now."""
    update = lambda old, new: put(old, active.places, new, active.there)
    new = {
        name: jax.tree.map(update, getattr(canvas, name), x) for name, x in group._asdict().items()
    }
    return dataclasses.replace(canvas, **new)


def pick(condition: jax.Array, yes: Any, no: Any) -> Any:
    """One of two pytrees of arrays `[B, ...]` in each row, by `condition [B]`; of the second's dtypes."""
    wide = lambda like: condition.reshape(-1, *(1,) * (like.ndim - 1))
    return jax.tree.map(lambda a, b: jnp.where(wide(b), a, b).astype(b.dtype), yes, no)


class StepsTaken(NamedTuple):
    """What the static steps of one forward led to.

    Attributes:
      group: after them.
      parts: states of the parts.
      scored: the forward of the last one, as its policy saw it.
      step: int32 `[B]`, steps taken in this group.
      steps: int32 `[B]`, steps taken in all.
      branch: int32 `[B]`, the last branch that was guessed right; 0 for none.
    """

    group: GroupState
    parts: PartStates
    scored: Scored
    step: jax.Array
    steps: jax.Array
    branch: jax.Array


@dataclasses.dataclass(frozen=True)
class StaticStep:
    """One step of a group from its logits: what is committed and what is taken back.

    Beyond the patience of its parts, which is bounded, a step commits more than it takes back: a group of m open
    positions takes at most m steps more.

    Attributes:
      unmask: the policy.
      remask: takes back; None for nothing.
      fuse: changes the logits; None for nothing.
      stop: commits all that is left; None for never.
    """

    unmask: Unmask
    remask: Remask | None
    fuse: Fuse | None
    stop: Stop | None

    def fresh(self, params: Params, batch: int, window: int) -> PartStates:
        """States of the parts at the beginning of a group."""
        init = lambda part: None if part is None else part.init(part.own(params), batch, window)
        return PartStates(init(self.unmask), init(self.remask), init(self.fuse), init(self.stop))

    def renewed(self, params: Params, parts: PartStates, batch: int, window: int) -> PartStates:
        """The same when the next group begins, for parts that remember the groups before it."""
        fresh = self.fresh(params, batch, window)
        renew = lambda part, state, new: (
            None if part is None else part.renew(part.own(params), state, new)
        )
        own = (self.unmask, self.remask, self.fuse, self.stop)
        return PartStates(*map(renew, own, parts, fresh))

    def __call__(
        self,
        params: Params,
        scored: Scored,
        group: GroupState,
        parts: PartStates,
        see: Callable[[Scored, GroupState], Candidates],
        standing: Callable[[GroupState], Standing],
        knobs: Knobs,
    ) -> tuple[Scored, GroupState, PartStates]:
        """The forward as the policy saw it, the group after the step, and the states of the parts.

        Args:
          params: by part.
          scored: the forward over the group, `[B, W, ...]`.
          group: before the step.
          parts: states.
          see: draws tokens; `ActiveGroup.see` at the step.
          standing: what a fusion looks at; `ActiveGroup.standing`.
          knobs: traced settings.
        """
        before = scored
        if self.fuse is not None:
            logits, own = self.fuse.fuse(
                self.fuse.own(params), scored, standing(group), parts.fuse, knobs
            )
            scored, parts = dataclasses.replace(scored, logits=logits), parts._replace(fuse=own)
        seen = see(scored, group)
        reveal, parts = self._revealed(params, seen, parts, knobs)
        back, parts = self._taken_back(params, seen, reveal, parts, knobs)
        assert seen.drawn is not None
        raw = seen.own.log_prob
        if self.fuse is not None:
            raw = at_token(jax.nn.log_softmax(before.logits), seen.drawn)
        rewrites = self.remask is not None and self.remask.rewrites
        new = reveal | back if rewrites else reveal
        back = jnp.zeros_like(back) if rewrites else back
        fill = lambda old, value: jnp.where(new, value, old)
        top = group.top
        if top is not None:
            own = top_tokens(before.logits, top.tokens.shape[-1])
            put = lambda old, value: jnp.where(new[..., None], value, old)
            top = jax.tree.map(put, top, own)
        after = GroupState(
            tokens=fill(group.tokens, seen.drawn),
            committed=(group.committed | reveal) & ~back,
            steps=jnp.where(back, -1, fill(group.steps, seen.steps[:, None])),
            log_probs=fill(group.log_probs, seen.warped.log_prob),
            raw_log_probs=fill(group.raw_log_probs, raw),
            top=top,
        )
        return scored, after, parts

    def _revealed(
        self, params: Params, seen: Candidates, parts: PartStates, knobs: Knobs
    ) -> tuple[jax.Array, PartStates]:
        """What the policy and the stop commit; the surest position if that is nothing for too long."""
        own = self.unmask.own(params)
        reveal, state = self.unmask.choose(own, seen, parts.unmask, knobs)
        parts = parts._replace(unmask=state)
        if self.stop is not None:
            now, state = self.stop.now(self.stop.own(params), seen, parts.stop, knobs)
            reveal, parts = reveal | now[:, None], parts._replace(stop=state)
        reveal &= seen.allowed
        idle = ~reveal.any(-1) & (seen.step >= self.unmask.patience(own, seen, knobs))
        return reveal | (idle[:, None] & best(seen)), parts

    def _taken_back(
        self,
        params: Params,
        seen: Candidates,
        reveal: jax.Array,
        parts: PartStates,
        knobs: Knobs,
    ) -> tuple[jax.Array, PartStates]:
        """What the remask rule takes back; nothing if the group has not grown for too long."""
        if self.remask is None:
            return jnp.zeros_like(reveal), parts
        own = self.remask.own(params)
        back, state = self.remask.take_back(own, seen, reveal, parts.remask, knobs)
        back &= seen.committed | reveal
        grows = (reveal.sum(-1) > back.sum(-1)) | self.remask.rewrites
        may = grows | (seen.step < self.remask.patience(own, seen, knobs))
        return back & may[:, None], parts._replace(remask=state)
