"""One step of the active group from its logits, and what the steps of one forward led to.

Legend: B rows, W positions of the active group.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.cache import Cache
from jaxdec.decoding import Request, Scored
from jaxdec.diffusion.candidates import Candidates, best
from jaxdec.diffusion.canvas import GroupState, at_token
from jaxdec.diffusion.contract import Knobs, Unmask
from jaxdec.diffusion.fuse import Fuse, Standing
from jaxdec.diffusion.remask import Remask
from jaxdec.diffusion.state import PartStates
from jaxdec.diffusion.stop import Stop
from jaxdec.model import Params
from jaxdec.sampling import top_tokens


def pick(condition: jax.Array, yes: Any, no: Any) -> Any:
    """One of two pytrees of arrays `[B, ...]` in each row, by `condition [B]`; of the second's dtypes.

    Caches are the first's in all rows: a choice would copy them, and of a row that is not decoded nobody reads one.
    """
    wide = lambda like: condition.reshape(-1, *(1,) * (like.ndim - 1))

    def one(a: Any, b: Any) -> Any:
        return a if isinstance(b, Cache) else jnp.where(wide(b), a, b).astype(b.dtype)

    return jax.tree.map(one, yes, no, is_leaf=lambda node: isinstance(node, Cache))


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

    def begun(self, params: Params, request: Request, batch: int, window: int) -> PartStates:
        """States of the parts when decoding begins."""
        begin = lambda part, state: (
            None if part is None else part.begin(part.own(params), request, state)
        )
        own = (self.unmask, self.remask, self.fuse, self.stop)
        return PartStates(*map(begin, own, self.fresh(params, batch, window)))

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
