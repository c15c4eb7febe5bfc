"""The steps that one forward serves: one, and more where branches were guessed right or a joint rule gives laws.

Legend: B rows, D branches, W positions of the active group, K steps of a joint rule.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.decoding import Scored
from jaxdec.diffusion.branches import foreseen
from jaxdec.diffusion.canvas import GroupState
from jaxdec.diffusion.group import ActiveGroup
from jaxdec.diffusion.joint import Joint, Revealed
from jaxdec.diffusion.proposing import looked
from jaxdec.diffusion.refresh import CanvasStatus
from jaxdec.diffusion.resample import Resample
from jaxdec.diffusion.state import DenoiseState
from jaxdec.diffusion.static_step import StaticStep, StepsTaken, pick
from jaxdec.model import Params


class Taking(NamedTuple):
    """What takes the steps of a forward.

    Attributes:
      static: one of them.
      resample: says what its parts look at; None for the draws themselves.
      joint: gives laws for further ones; None for none.
      branches: D.
    """

    static: StaticStep
    resample: Resample | None
    joint: Joint | None
    branches: int

    def __call__(
        self,
        params: Params,
        state: DenoiseState,
        status: CanvasStatus,
        scored: Scored,
        active: ActiveGroup,
        group: GroupState,
    ) -> StepsTaken:
        """All steps.

        Args:
          params: by part.
          state: before them.
          status: where each row stands.
          scored: the forward over the group in all branches, `[B, D, W, ...]`.
          active: the group.
          group: its positions.
        """
        batch, window = active.places.shape
        fresh = self.static.renewed(params, state.parts, batch, window)
        alive, step = state.rows.running, jnp.where(status.entered, 0, state.counters.step)
        taken = StepsTaken(
            group=group,
            parts=pick(status.entered, fresh, state.parts),
            scored=jax.tree.map(lambda x: x[:, 0], scored),
            step=step,
            steps=state.counters.steps,
            branch=jnp.zeros_like(step),
        )
        for branch in range(self.branches):
            if branch:
                assert state.ahead is not None
                alive &= foreseen(state.canvas, state.ahead, active, taken.group, branch)
            own = jax.tree.map(lambda x, at=branch: x[:, at], scored)
            taken = self._one(params, state, active, taken, own, alive)
            taken = taken._replace(branch=jnp.where(alive, branch, taken.branch))
        if self.joint is None or self.joint.number == 1:
            return taken
        first = jax.tree.map(lambda x: x[:, 0], scored)
        return self._jointly(self.joint, params, state, active, group, first, taken)

    def _one(
        self,
        params: Params,
        state: DenoiseState,
        active: ActiveGroup,
        taken: StepsTaken,
        scored: Scored,
        alive: jax.Array,
    ) -> StepsTaken:
        """One step more in the rows that are `alive`, bool `[B]`."""
        look = functools.partial(looked, self.resample, params, state, active, taken)
        after, group, parts = self.static(
            params,
            scored,
            taken.group,
            taken.parts,
            look,
            active.standing,
            state.settings.knobs,
        )
        old = taken.group, taken.parts, taken.scored
        group, parts, after = pick(alive, (group, parts, after), old)
        return taken._replace(
            group=group,
            parts=parts,
            scored=after,
            step=taken.step + alive,
            steps=taken.steps + alive,
        )

    def _jointly(
        self,
        joint: Joint,
        params: Params,
        state: DenoiseState,
        active: ActiveGroup,
        before: GroupState,
        first: Scored,
        taken: StepsTaken,
    ) -> StepsTaken:
        """Further steps, by the laws of the rule."""
        knobs = state.settings.knobs
        most = joint.steps(knobs, active.places.shape[0])

        def one(
            carry: tuple[StepsTaken, Scored], number: jax.Array
        ) -> tuple[tuple[StepsTaken, Scored], None]:
            taken, last = carry
            held = taken.group.committed
            alive = state.rows.running & (number < most) & (active.there & ~held).any(1)
            new = held & ~before.committed
            revealed = Revealed(active.places, active.there, taken.group.tokens, held, new)
            scored = joint.further(joint.own(params), first, last, revealed, knobs)
            return (self._one(params, state, active, taken, scored, alive), scored), None

        numbers = jnp.arange(1, joint.number, dtype=jnp.int32)
        (taken, _), _ = jax.lax.scan(one, (taken, first), numbers)
        return taken
