"""The canvas loop: score the positions of a group together, commit some of them, repeat.

    score -> see -> choose, stop, take back -> write -> emit

Every part is small and knows nothing of the others: the schedule says which group is active, the refresh rule which
positions are computed again, the policy which of the group's positions are committed, the remask rule which are taken
back. The loop keeps the canvas, draws the tokens and emits the finished prefix of every row.

Legend: B rows, L positions of the canvas, W positions of a group, D branches, T fresh positions, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import Exactness, Info, Knob, Part, Request, Rows, Scored
from jaxdec.diffusion.branches import guessed
from jaxdec.diffusion.canvas import FAR, Canvas, take
from jaxdec.diffusion.contract import Unmask
from jaxdec.diffusion.emit import emit
from jaxdec.diffusion.forward import Computed, Forward, ForwardInputs
from jaxdec.diffusion.fuse import Fuse
from jaxdec.diffusion.group import active_group, cut, written
from jaxdec.diffusion.grow import Grow
from jaxdec.diffusion.grow.edit import grown
from jaxdec.diffusion.joint import Joint
from jaxdec.diffusion.neighbours import neighbours
from jaxdec.diffusion.partial import renumbered, uncomputed
from jaxdec.diffusion.proposing import further_forwards
from jaxdec.diffusion.refresh import CanvasStatus, Refresh
from jaxdec.diffusion.remask import Remask
from jaxdec.diffusion.resample import Resample
from jaxdec.diffusion.schedules import Schedule, SpanRule
from jaxdec.diffusion.state import Counters, DenoiseState, canvas_status
from jaxdec.diffusion.static_step import StaticStep, StepsTaken, pick
from jaxdec.diffusion.stop import Stop
from jaxdec.diffusion.taking import Taking
from jaxdec.model import Model, Params

FILLED = 2
"""How many times as wide as a narrow step a wide one may be for the entries of both to be stored alike."""


@dataclasses.dataclass(frozen=True)
class Denoise:
    """See `denoise`; `spans` is the rule that `attention` names."""

    model: Model
    schedule: Schedule
    unmask: Unmask
    remask: Remask | None
    fuse: Fuse | None
    stop: Stop | None
    grow: Grow | None
    resample: Resample | None
    joint: Joint | None
    refresh: Refresh
    spans: SpanRule
    guided: bool
    branches: int
    width: int = 1
    steps_per_token = np.iinfo(np.int32).max  # each group has a bound of its own, see `StaticStep`
    fills_canvas = True

    @property
    def exactness(self) -> Exactness:
        """That of the policy, if nothing else changes the law."""
        others = (self.remask, self.fuse, self.stop, self.resample, self.joint, self.grow)
        plain = all(part is None for part in others) and not self.guided
        return self.unmask.exactness if plain and self.refresh.exact else Exactness.HEURISTIC

    @property
    def target_rests(self) -> bool:
        """Whether there are steps without a forward of the model."""
        return self.joint is not None

    @property
    def parts(self) -> tuple[Part, ...]:
        """Those that there are."""
        own = (self.unmask, self.remask, self.fuse, self.stop, self.resample, self.joint, self.grow)
        return tuple(part for part in (*own, self.refresh, self.schedule) if part is not None)

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings of all parts."""
        found = {name: knob for part in self.parts for name, knob in part.knobs.items()}
        if self.guided:
            found["guidance"] = Knob(0.0)
        return found

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a request or parameters that a part cannot serve."""
        for part in self.parts:
            part.check(request, params)
        if request.order is not None and self.grow is not None:
            raise ValueError("a canvas that grows fills no order of the request")
        if request.order is not None and self.model.reads_before and self.spans.one_way:
            raise ValueError(
                "the model is shifted and sees no later unit: it fills no order of the request, in which the row "
                "before may be of a later unit; only attention='full' does"
            )

    def init(self, params: Params, request: Request) -> DenoiseState:
        """Lays the prompts out on canvases; a refresh rule may read them."""
        rows = Rows.start(request, self.model.vocab_size)
        batch, length = rows.tokens.shape
        room = length - request.prompt.shape[1]
        zero = jnp.zeros((batch,), jnp.int32)
        cache, grow, window = None, self.grow, self._window(room, length)
        if self.refresh.kept:
            cache = request.new_cache(self.model, batch * (1 + self.guided))
        state = DenoiseState(
            rows=rows,
            settings=request.settings,
            canvas=self._canvas(params, rows, request, room),
            counters=Counters(zero - 2, zero - 2, zero, zero, zero, zero, zero > 0),
            parts=self._static.begun(params, request, batch, window),
            ahead=None if self.branches == 1 else jnp.full(rows.tokens.shape, FAR, jnp.int32),
            grow=None if grow is None else grow.init(grow.own(params), batch, window),
            cache=cache,
            room=room,
            longest=request.longest,
            hypotheses=request.hypotheses,
        )
        status = canvas_status(state, rows.length > 0)
        fresh = self.refresh.prefill(self.refresh.own(params), status)
        if fresh is not None:
            width = min(request.prompt.shape[1], length)
            computed = self._compute(params, state, status, fresh, width)
            state = dataclasses.replace(state, cache=self._store(state, computed))
        return state

    def _canvas(self, params: Params, rows: Rows, request: Request, room: int) -> Canvas:
        """The prompts, and masks behind them."""
        length = rows.tokens.shape[1]
        groups, units = self.schedule.assign(self.schedule.own(params), rows.length, length)
        new = jnp.minimum(request.settings.max_new_tokens, room)
        if self.grow is not None:
            new = jnp.minimum(new, self.grow.start(request.settings.knobs))
        return Canvas.blank(rows, groups, units, new)

    @property
    def _static(self) -> StaticStep:
        return StaticStep(self.unmask, self.remask, self.fuse, self.stop)

    def _window(self, room: int, length: int) -> int:
        """W."""
        return min(self.schedule.largest(room)[0], length)

    def _compute(
        self,
        params: Params,
        state: DenoiseState,
        status: CanvasStatus,
        fresh: jax.Array,
        size: int,
        branches: int = 1,
    ) -> Computed:
        window = self._window(state.room, state.canvas.tokens.shape[1])
        forward = Forward(self.model, self.schedule, self.spans, window, state.longest)
        guidance = state.settings.knobs["guidance"] if self.guided else None
        given = ForwardInputs(state.rows, state.canvas, state.ahead, status, state.cache, guidance)
        computed = forward(params, given, fresh, size, branches)
        return uncomputed(self.refresh, computed, status, fresh, window)

    def _store(self, state: DenoiseState, computed: Computed) -> Any:
        """The cache with what was computed."""
        slots = jnp.where(state.rows.running[:, None], computed.slots, -1)
        again = lambda x: jnp.tile(x, (1 + self.guided, *(1,) * (x.ndim - 1)))
        return state.cache.write(computed.entries, again(slots), again(computed.key_spans))

    def _sizes(self, state: DenoiseState) -> tuple[int, int]:
        """Fresh positions of a narrow and of a wide step, at most."""
        length, room = state.canvas.tokens.shape[1], state.room
        sizes = self.refresh.sizes(self.schedule, length, room)
        if not self.model.reads_before:
            return sizes
        ordered = state.rows.order is not None
        more = self._window(room, length) if ordered else self.schedule.edges(room)
        narrow, most = (min(size + more, length) for size in sizes)
        return narrow, most

    def _fresh(
        self, params: Params, state: DenoiseState, status: CanvasStatus, wide: jax.Array | None
    ) -> jax.Array:
        """Fresh positions, bool `[B, L]`, of a narrow forward, or of one in which some rows take a wide step."""
        own = self.refresh.own(params)
        fresh = self.refresh.narrow(own, status)
        if wide is not None:
            fresh = jnp.where(wide[:, None], self.refresh.wide(own, status), fresh)
        if self.model.reads_before:
            fresh |= take(status.active, neighbours(state.rows, 1))
        return fresh

    def _forward(
        self, params: Params, state: DenoiseState, status: CanvasStatus, wide: jax.Array
    ) -> tuple[Scored, Any]:
        """Narrow or wide, as the rows need it; and the cache with what was computed.

        A step that is much narrower than a wide one stores its own entries in its own branch: it then costs what is
        narrow, however large the canvas. Else entries are filled up and stored behind the branches, where the compiler
        never copies a cache.
        """
        narrow, most = self._sizes(state)

        def compute(wide: jax.Array | None, size: int) -> Computed:
            fresh = self._fresh(params, state, status, wide)
            return self._compute(params, state, status, fresh, size, self.branches)

        def stored(computed: Computed) -> tuple[Scored, Any]:
            return computed.scored, None if state.cache is None else self._store(state, computed)

        if narrow == most:
            return stored(compute(wide, most))
        some = (wide & state.rows.running).any()
        if most > FILLED * narrow:
            return jax.lax.cond(
                some, lambda: stored(compute(wide, most)), lambda: stored(compute(None, narrow))
            )
        like = jax.eval_shape(lambda: compute(wide, most))

        def filled() -> Computed:
            fill = lambda x, full: jnp.pad(
                x, [(0, m - n) for n, m in zip(x.shape, full.shape, strict=True)]
            )
            small = jax.tree.map(fill, compute(None, narrow), like)
            outside = jnp.arange(most) >= narrow
            return small._replace(slots=jnp.where(outside, -1, small.slots))

        return stored(jax.lax.cond(some, lambda: compute(wide, most), filled))

    def step(
        self, params: Params, state: DenoiseState, rng: jax.Array
    ) -> tuple[DenoiseState, Info]:
        """Commits some positions of the active group of every row."""
        ran, counters = state.rows.running, state.counters
        window = self._window(state.room, state.canvas.tokens.shape[1])
        status = canvas_status(state, state.rows.rounds == 0)
        wide = self.refresh.due(self.refresh.own(params), status)
        state, status = renumbered(self.refresh, params, state, status, wide)
        scored, cache = self._forward(params, state, status, wide)
        # A policy that looks at drawn tokens has used their noise; what is taken back, moves or was one of several too.
        others = (self.remask, self.resample, self.grow)
        by_step = self.unmask.value_dependent or any(part is not None for part in others)
        computed = self._fresh(params, state, status, wide)
        if self.schedule.cuts:
            state, status = cut(state, status, params, scored, self.schedule, window)
        active, before = active_group(state, status, window, rng, by_step)
        stuck = ~(active.there & ~before.committed).any(1) & ~counters.lingers
        taking = Taking(self._static, self.resample, self.joint, self.branches)
        taken = taking(params, state, status, scored, active, before)
        group, ahead = taken.group, state.ahead
        if ahead is not None:
            seen = active.see(taken.scored, group, taken.step, taken.steps)
            ahead = guessed(self.unmask, params, seen, active, ahead, state.settings.knobs)
            group = group._replace(tokens=seen.tokens)
        canvas, growing = written(state.canvas, active, group), state.grow
        held = jnp.zeros_like(ran)
        if self.grow is not None:
            canvas, growing, held = grown(self.grow, params, state, active, before, taken)
            taken = taken._replace(parts=pick(held, state.parts, taken.parts))
        final, lingers = self._final(canvas, status, taken)
        rows, info = emit(state.rows, canvas, state.settings, final=final, stuck=stuck)
        fresh = computed.sum(1, dtype=jnp.int32)
        if self.model.any_subset:
            asked = active.there.sum(1, dtype=jnp.int32)
            fresh = self.model.scored_rows(fresh, asked, state.canvas.end)
        target_rows = fresh * self.branches * (1 + self.guided)
        info = dataclasses.replace(
            info,
            proposed=jnp.where(ran, self.branches - 1, 0),
            accepted=jnp.where(ran, taken.branch, 0),
            target_forwards=ran.astype(jnp.int32),
            draft_forwards=further_forwards(self.resample, self.unmask, state, active)
            + jnp.where(ran & (self.joint is not None), taken.steps - state.counters.steps - 1, 0),
            target_rows=jnp.where(ran, target_rows, 0),
        )
        since = jnp.where(wide, 0, counters.since + 1)
        # A group that was held begins anew.
        group_now = jnp.where(held, -2, status.group[:, 0])
        at = (group_now, status.unit[:, 0], taken.step, active.opened, taken.steps)
        counters = pick(ran, Counters(*at, since, lingers), counters)
        after = dataclasses.replace(
            state,
            rows=rows,
            canvas=canvas,
            counters=counters,
            parts=taken.parts,
            ahead=ahead,
            grow=growing,
            cache=cache,
        )
        return after, info

    def _final(
        self, canvas: Canvas, status: CanvasStatus, taken: StepsTaken
    ) -> tuple[jax.Array, jax.Array]:
        """The group before which tokens are final, int32 `[B]`, and whether the active group takes another step.

        Where tokens may be taken back, they are final only when their group is.
        """
        none = jnp.zeros(canvas.end.shape, bool)
        if self.remask is None:
            return jnp.full(canvas.end.shape, FAR, jnp.int32), none
        lingers = self.remask.lingers(taken.parts.remask, none)
        ends = jnp.min(jnp.where(canvas.masked, canvas.groups, FAR), axis=1)
        return jnp.where(lingers, status.group[:, 0], ends), lingers
