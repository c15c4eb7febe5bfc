"""The canvas loop: score the positions of a group together, commit some of them, repeat.

    denoise(model, schedule, unmask, remask, fuse, stop, refresh)

Every part is small and knows nothing of the others: the schedule says which group is active, the refresh rule which
positions are computed again, the policy which of the group's positions are committed, the remask rule which are taken
back. The loop keeps the canvas, draws the tokens and emits the finished prefix of every row.

Legend: B rows, L positions of the canvas, W positions of a group, D branches, T fresh positions, V vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness, Info, Knob, Request, Rows, Settings, Status, target_params
from jaxdec.diffusion import schedules
from jaxdec.diffusion.candidates import Candidates, draw, ranked
from jaxdec.diffusion.canvas import FAR, Canvas, GroupState, at_token, compact, put, take
from jaxdec.diffusion.contract import Unmask
from jaxdec.diffusion.forward import Forward, ForwardInputs, Scored
from jaxdec.diffusion.fuse import Fuse
from jaxdec.diffusion.refresh import NEVER, CanvasStatus, Refresh, none
from jaxdec.diffusion.remask import Remask
from jaxdec.diffusion.schedules import Schedule
from jaxdec.diffusion.stop import Stop
from jaxdec.diffusion.unmask import threshold
from jaxdec.model import Model, Params
from jaxdec.sampling import Purpose, key_at


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Counters:
    """How far a row is, int32 `[B]` each.

    Attributes:
      group: the group of the last step; -2 before the first.
      unit: its unit.
      step: steps taken in this group.
      opened: positions that the group had to fill.
      steps: steps taken in all, those that a branch took ahead included.
      since: forwards since the last wide one.
    """

    group: jax.Array
    unit: jax.Array
    step: jax.Array
    opened: jax.Array
    steps: jax.Array
    since: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DenoiseState:
    """What a step reads.

    Attributes:
      rows: the finished prefix of each row.
      settings: the request's settings.
      canvas: everything.
      counters: counters a row.
      parts: states of the policy, the remask rule and the fusion, for the active group.
      ahead: int32 `[B, L]`, the branch from which on a masked position is filled with `canvas.tokens`; None for one
        branch.
      cache: of the model, by position of the canvas; None without one.
      room: positions that can be generated; static.
    """

    rows: Rows
    settings: Settings
    canvas: Canvas
    counters: Counters
    parts: tuple[Any, Any, Any]
    ahead: jax.Array | None
    cache: Any
    room: int = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True)
class Denoise:
    """See `denoise`."""

    model: Model
    schedule: Schedule
    unmask: Unmask
    remask: Remask | None
    fuse: Fuse | None
    stop: Stop | None
    refresh: Refresh
    causal: bool
    guided: bool
    branches: int
    width: int = 1
    fills_canvas = True

    @property
    def exactness(self) -> Exactness:
        """That of the policy, if nothing else changes the law."""
        plain = self.remask is None and self.fuse is None and self.stop is None and not self.guided
        return self.unmask.exactness if plain and self.refresh.exact else Exactness.HEURISTIC

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings of all parts."""
        found = {}
        for part in (self.unmask, self.remask, self.fuse, self.stop, self.refresh):
            found.update({} if part is None else part.knobs)
        if self.guided:
            found["guidance"] = Knob(0.0)
        return found

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a request that the schedule or the model cannot serve."""
        self.schedule.check(int(jnp.max(request.settings.max_new_tokens)))

    def init(self, params: Params, request: Request) -> DenoiseState:
        """Lays the prompts out on canvases; a refresh rule may read them."""
        rows = Rows.start(request, self.model.vocab_size)
        batch, length = rows.tokens.shape
        places = jnp.arange(length)
        committed = jnp.broadcast_to(places, rows.tokens.shape) < rows.length[:, None]
        groups, units = self.schedule.assign(rows.length, length)
        room = length - request.prompt.shape[1]
        end = rows.length + jnp.minimum(request.settings.max_new_tokens, room)
        zero = jnp.zeros((batch,), jnp.int32)
        nothing = jnp.zeros(rows.tokens.shape, jnp.float32)
        canvas = Canvas(
            tokens=rows.tokens,
            committed=committed,
            steps=jnp.full(rows.tokens.shape, -1, jnp.int32),
            log_probs=nothing,
            raw_log_probs=nothing,
            groups=groups,
            units=units,
            end=end,
        )
        cache = None
        if self.refresh.kept:
            cache = request.new_cache(self.model, batch * (1 + self.guided))
        state = DenoiseState(
            rows=rows,
            settings=request.settings,
            canvas=canvas,
            counters=Counters(zero - 2, zero - 2, zero, zero, zero, zero),
            parts=self._fresh(batch, self._window(room, length)),
            ahead=None if self.branches == 1 else jnp.full(rows.tokens.shape, FAR, jnp.int32),
            cache=cache,
            room=room,
        )
        status = self._facts(state, rows.length > 0)
        fresh = self.refresh.prefill(status)
        if fresh is not None:
            width = min(request.prompt.shape[1], length)
            scored = self._score(params, state, status, fresh, width)
            state = dataclasses.replace(state, cache=self._store(state, scored))
        return state

    def _window(self, room: int, length: int) -> int:
        """W."""
        return min(self.schedule.largest(room)[0], length)

    def _fresh(self, batch: int, window: int) -> tuple[Any, Any, Any]:
        parts = (self.unmask, self.remask, self.fuse)
        return tuple(None if part is None else part.init(batch, window) for part in parts)  # type: ignore[return-value]

    def _facts(self, state: DenoiseState, first: jax.Array) -> CanvasStatus:
        """Where each row stands before a step."""
        canvas, counters = state.canvas, state.counters
        active = lambda numbers: jnp.min(jnp.where(canvas.masked, numbers, FAR), axis=1)
        group, unit = active(canvas.groups), active(canvas.units)
        period = state.settings.knobs.get("refresh_period", jnp.full_like(group, NEVER))
        return CanvasStatus(
            groups=canvas.groups,
            units=canvas.units,
            exists=canvas.exists,
            group=group[:, None],
            unit=unit[:, None],
            entered=group != counters.group,
            entered_unit=unit != counters.unit,
            first=first,
            over=counters.since + 1 >= period,
        )

    def _score(
        self,
        params: Params,
        state: DenoiseState,
        status: CanvasStatus,
        fresh: jax.Array,
        size: int,
        branches: int = 1,
    ) -> Scored:
        window = self._window(state.room, state.canvas.tokens.shape[1])
        forward = Forward(self.model, window, self.causal)
        view = ForwardInputs(state.rows, state.canvas, state.ahead, status, state.cache)
        guidance = state.settings.knobs["guidance"] if self.guided else None
        return forward(target_params(params), view, fresh, size, branches, guidance)

    def _store(self, state: DenoiseState, scored: Scored) -> Any:
        """The cache with what was computed."""
        slots = jnp.where(state.rows.running[:, None], scored.slots, -1)
        again = lambda x: jnp.tile(x, (1 + self.guided, *(1,) * (x.ndim - 1)))
        return state.cache.write(scored.entries, again(slots), again(scored.key_spans))

    def _forward(
        self, params: Params, state: DenoiseState, status: CanvasStatus, wide: jax.Array
    ) -> Scored:
        """Narrow or wide, as the rows need it; a row that does not need a wide forward has its narrow share of one."""
        length = state.canvas.tokens.shape[1]
        narrow, most = self.refresh.sizes(self.schedule, length, state.room)
        small = self.refresh.narrow(status)
        score = lambda fresh, size: self._score(params, state, status, fresh, size, self.branches)
        if narrow == most:
            return score(jnp.where(wide[:, None], self.refresh.wide(status), small), most)
        large = lambda: score(jnp.where(wide[:, None], self.refresh.wide(status), small), most)
        like = jax.eval_shape(large)

        def padded():
            fill = lambda x, full: jnp.pad(
                x, [(0, m - n) for n, m in zip(x.shape, full.shape, strict=True)]
            )
            filled = jax.tree.map(fill, score(small, narrow), like)
            outside = jnp.arange(most) >= narrow
            return filled._replace(slots=jnp.where(outside, -1, filled.slots))

        return jax.lax.cond((wide & state.rows.running).any(), large, padded)

    def step(
        self, params: Params, state: DenoiseState, rng: jax.Array
    ) -> tuple[DenoiseState, Info]:
        """Commits some positions of the active group of every row."""
        rows, settings, canvas = state.rows, state.settings, state.canvas
        batch, length = canvas.tokens.shape
        counters, knobs = state.counters, settings.knobs
        window = self._window(state.room, length)
        status = self._facts(state, rows.rounds == 0)
        wide = self.refresh.due(status)
        scored = self._forward(params, state, status, wide)

        places, there, _ = compact(status.exists & (status.groups == status.group), window)
        entered = status.entered
        pick = lambda condition, yes, no: jax.tree.map(
            lambda a, b: jnp.where(condition.reshape(-1, *(1,) * (a.ndim - 1)), a, b), yes, no
        )
        parts = pick(entered, self._fresh(batch, window), state.parts)
        known = take(canvas.committed, places) & there
        given = there & (places < rows.prompt_length[:, None])
        opened = jnp.where(entered, (there & ~known).sum(1), counters.opened)
        step = jnp.where(entered, 0, counters.step)
        taken, alive, best = counters.steps, rows.running, jnp.zeros_like(step)
        group = GroupState(
            tokens=take(canvas.tokens, places),
            committed=known,
            steps=take(canvas.steps, places),
            log_probs=take(canvas.log_probs, places),
            raw_log_probs=take(canvas.raw_log_probs, places),
        )

        history = rows.history
        if history is not None:
            # Penalties count what is committed, wherever on the canvas it stands.
            outside = canvas.committed & (status.groups != status.group)
            outside &= jnp.arange(length) >= rows.prompt_length[:, None]
            history = dataclasses.replace(history, generated=jnp.zeros_like(history.generated))
            history = history.add(canvas.tokens, outside)

        def see(logits: jax.Array, group: GroupState) -> Candidates:
            counted = history and history.add(group.tokens, group.committed & ~given)
            # A policy that looks at drawn tokens has used their noise, and so has a token that is taken back.
            by_step = self.unmask.value_dependent or self.remask is not None
            again = (taken[:, None],) if by_step else ()
            keys = lambda: key_at(rng, Purpose.TOKEN, places, *again)
            drawn = draw(settings.warp, logits, counted, keys)
            return Candidates(
                own=drawn.own,
                warped=drawn.warped,
                tokens=jnp.where(group.committed, group.tokens, drawn.tokens),
                places=places,
                allowed=there & ~group.committed,
                committed=group.committed & ~given,
                step=step,
                opened=opened,
                steps=taken,
                keys=rng,
            )

        last = scored.logits[:, 0]
        for branch in range(self.branches):
            if branch:
                assert state.ahead is not None
                foreseen = known | (there & (take(state.ahead, places) <= branch))
                tokens = jnp.where(foreseen, take(canvas.tokens, places), 0)
                same = (foreseen == group.committed).all(1)
                same &= (tokens == jnp.where(group.committed, group.tokens, 0)).all(1)
                alive &= same & (there & ~group.committed).any(1)
                best = jnp.where(alive, branch, best)
            logits, after = self._static_step(scored.logits[:, branch], group, parts, see, knobs)
            group, parts = pick(alive, after, (group, parts))
            last = pick(alive, logits, last)
            step, taken = step + alive, taken + alive

        tokens, ahead = group.tokens, state.ahead
        if ahead is not None:
            seen = see(last, group)
            score, count = self.unmask.ahead(seen, knobs)
            filled = ranked(score, seen.allowed) // jnp.maximum(count, 1)[:, None] + 1
            ahead = jnp.full_like(ahead, FAR)
            ahead = put(ahead, places, jnp.where(seen.allowed, filled, FAR), there)
            tokens = seen.tokens
        update = lambda old, new: put(old, places, new, there)
        canvas = dataclasses.replace(
            canvas,
            tokens=update(canvas.tokens, tokens),
            committed=update(canvas.committed, group.committed),
            steps=update(canvas.steps, group.steps),
            log_probs=update(canvas.log_probs, group.log_probs),
            raw_log_probs=update(canvas.raw_log_probs, group.raw_log_probs),
        )
        fresh = jnp.where(
            wide[:, None], self.refresh.wide(status), self.refresh.narrow(status)
        ).sum(1)
        if self.model.any_subset:
            fresh += there.sum(1)
        rows, info = self._emit(rows, canvas, settings)
        ran = state.rows.running.astype(jnp.int32)
        info = dataclasses.replace(
            info,
            proposed=ran * (self.branches - 1),
            accepted=ran * best,
            target_forwards=ran,
            target_rows=ran * fresh * self.branches * (1 + self.guided),
        )
        moved = Counters(
            group=status.group[:, 0],
            unit=status.unit[:, 0],
            step=step,
            opened=opened,
            steps=taken,
            since=jnp.where(wide, 0, counters.since + 1),
        )
        counters = pick(state.rows.running, moved, counters)
        cache = None if state.cache is None else self._store(state, scored)
        return DenoiseState(rows, settings, canvas, counters, parts, ahead, cache, state.room), info

    def _static_step(
        self,
        logits: jax.Array,
        group: GroupState,
        parts: tuple[Any, Any, Any],
        see: Callable[[jax.Array, GroupState], Candidates],
        knobs: dict[str, jax.Array],
    ) -> tuple[jax.Array, tuple[GroupState, tuple[Any, Any, Any]]]:
        """One step of the group from logits `[B, W, V]`: what is committed and taken back."""
        policy, taking, fusing = parts
        before = logits
        if self.fuse is not None:
            logits, fusing = self.fuse.fuse(logits, ~group.committed, fusing, knobs)
        seen = see(logits, group)
        reveal, policy = self.unmask.choose(seen, policy, knobs)
        if self.stop is not None:
            reveal |= self.stop.now(seen, knobs)[:, None]
        reveal &= seen.allowed
        back = jnp.zeros_like(reveal)
        if self.remask is not None:
            back, taking = self.remask.take_back(seen, reveal, taking, knobs)
            back &= seen.committed | reveal
        raw = seen.own.log_prob
        if self.fuse is not None:
            raw = at_token(jax.nn.log_softmax(before), seen.tokens)
        fill = lambda old, new: jnp.where(reveal, new, old)
        after = GroupState(
            tokens=fill(group.tokens, seen.tokens),
            committed=(group.committed | reveal) & ~back,
            steps=jnp.where(back, -1, fill(group.steps, seen.steps[:, None])),
            log_probs=fill(group.log_probs, seen.warped.log_prob),
            raw_log_probs=fill(group.raw_log_probs, raw),
        )
        return logits, (after, (policy, taking, fusing))

    def _emit(self, rows: Rows, canvas: Canvas, settings: Settings) -> tuple[Rows, Info]:
        """Moves the finished prefix of the canvas into the rows."""
        final = canvas.committed
        if self.remask is not None:  # a token is final once its group is
            active = jnp.min(jnp.where(canvas.masked, canvas.groups, FAR), axis=1)
            final &= canvas.groups < active[:, None]
        open_ = canvas.exists & ~final
        places = jnp.arange(final.shape[1])
        prefix = jnp.min(jnp.where(open_, places, canvas.end[:, None]), axis=1)
        chunk = rows.length[:, None] + places
        tokens, log_probs = take(canvas.tokens, chunk), take(canvas.log_probs, chunk)
        before = rows.length
        rows, count = rows.advance(settings, tokens, prefix - before, jnp.isfinite(log_probs))
        # A full canvas that is smaller than what was asked for has no next step.
        full = rows.running & (prefix == canvas.end)
        status = jnp.where(full, int(Status.CACHE_FULL), rows.status)
        rows = dataclasses.replace(rows, status=status)
        none = jnp.zeros_like(count)
        info = Info(
            tokens=tokens,
            start=before,
            count=count,
            log_probs=log_probs,
            raw_log_probs=take(canvas.raw_log_probs, chunk),
            drafted=jnp.zeros(tokens.shape, bool),
            proposed=none,
            accepted=none,
            target_forwards=none,
            target_rows=none,
            draft_forwards=none,
            status=rows.status,
            steps=take(canvas.steps, chunk),
        )
        return rows, info


def denoise(
    model: Model,
    *,
    unmask: Unmask | None = None,
    schedule: Schedule | None = None,
    remask: Remask | None = None,
    fuse: Fuse | None = None,
    stop: Stop | None = None,
    refresh: Refresh | None = None,
    attention: Literal["full", "causal"] = "full",
    guided: bool = False,
    branches: int = 1,
) -> Denoise:
    """Masked and block diffusion decoding: several positions of a canvas a forward.

        x_i ~ q(. | canvas)  for every masked i of the active group;   commit those that the policy picks

    until the canvas is full. Rows end at the first stop of their finished prefix, whatever stands behind it.

    Args:
      model: predicts the token at the place of each row (`Model.mask_token`), or answers queries
        (`any_subset.two_stream`, which then reads committed tokens alone).
      unmask: the policy; `unmask.threshold()` if not given.
      schedule: groups of positions; `schedules.whole()` if not given.
      remask: takes committed tokens of the active group back; noise is then by position and step.
      fuse: changes the logits by those of earlier steps.
      stop: commits all that is left of a group early.
      refresh: which positions are computed again in a step; `refresh.none()` if not given.
      attention: `"full"` for models that see the whole canvas, `"causal"` for those that see their block and the blocks
        before it, with the blocks of the schedule.
      guided: classifier-free guidance with the prompt masked, `l = l_without + (guidance + 1) (l_with - l_without)`;
        `guidance` is a knob. Twice the rows.
      branches: D. With more than one, the canvases that the next D - 1 steps would lead to are guessed and scored in
        the same forward, and as many steps are taken as were guessed right: FreeDave. D times the rows.

    Raises:
      ValueError: for parts that do not fit together.

    Exactness: that of the policy, heuristic for most; see there. Branches change nothing but the number of forwards,
    token for token, greedy or sampled (a refresh period counts forwards, so it should be left alone with them). Exact
    caches change nothing; approximate ones nothing at a refresh period of 1.

    Source: LLaDA 2502.09992, Fast-dLLM 2505.22618, SDAR 2510.06303; FreeDave 2510.00294 with equality of whole
    canvases, and fixed noise a position, so that it is lossless above temperature 0 as well.
    """
    if not (model.canvas or model.any_subset):
        raise ValueError("the model is causal: it predicts next tokens and fills no canvas")
    unmask = threshold() if unmask is None else unmask
    schedule = schedules.whole() if schedule is None else schedule
    refresh = none() if refresh is None else refresh
    if attention not in ("full", "causal"):
        raise ValueError(f"attention must be full or causal, got {attention!r}")
    if refresh.needs_blocks and attention != "causal":
        raise ValueError("this refresh rule is for block-causal attention; give attention='causal'")
    if branches < 1:
        raise ValueError(f"branches must be at least 1, got {branches}")
    return Denoise(
        model=model,
        schedule=schedule,
        unmask=unmask,
        remask=remask,
        fuse=fuse,
        stop=stop,
        refresh=refresh,
        causal=attention == "causal",
        guided=guided,
        branches=branches,
    )
