"""Routing of steps: a draft model writes a step, and a gate says whether it stays or the target takes over.

Legend: B rows, W tokens of a step at most.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import (
    Exactness,
    Info,
    Knob,
    Part,
    Request,
    Rows,
    Settings,
    once,
    prefill,
    read_on,
    read_prompts,
    target_params,
)
from jaxdec.model import Model, Params
from jaxdec.sampling import top_tokens
from jaxdec.search.contract import Pool
from jaxdec.search.gates import Gate, Judged, Reader
from jaxdec.search.segments import Segment
from jaxdec.search.writers import Candidate, Cost, Writer, Written, chosen


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoutingState:
    """What a step reads.

    Attributes:
      rows: committed tokens.
      settings: the request's settings.
      cache: the target's, of what it had to read; any number of tokens behind the rows.
      draft: the draft model's cache, of the text and of its step.
      drafted: the draft model's step, as far as it was written.
      written: the target's.
      target_writes: bool `[B]`, whether the target writes the step, or the draft model.
      log_probs: float32 `[B]`, of the row's new tokens under the laws that they were drawn from.
      gate: what the gate keeps of each row.
    """

    rows: Rows
    settings: Settings
    cache: Any
    draft: Any
    drafted: Candidate
    written: Candidate
    target_writes: jax.Array
    log_probs: jax.Array
    gate: Any

    @property
    def pool(self) -> Any:
        """What the gate keeps, as `Result.pool`."""
        return self.gate


@dataclasses.dataclass(frozen=True)
class _Turn:
    """What became of steps that have ended, bool `[B]` each."""

    judged: jax.Array
    kept: jax.Array
    from_draft: jax.Array
    committed: jax.Array


@dataclasses.dataclass(frozen=True)
class StepRouting:
    """See `step_routing`."""

    model: Model
    draft: Model
    gate: Gate
    segment: Segment
    rewrite: bool = True
    exactness: Exactness = Exactness.HEURISTIC
    target_rests: bool = True

    @property
    def width(self) -> int:
        """W: a step is committed as a whole."""
        assert self.segment.most is not None
        return self.segment.most

    @property
    def writer(self) -> Writer:
        """The target, as one that writes."""
        return Writer(self.model, self.width)

    @property
    def drafter(self) -> Writer:
        """The draft model."""
        return Writer(self.draft, self.width, "draft")

    @property
    def parts(self) -> tuple[Part, ...]:
        """The draft model and the gate."""
        return self.drafter, self.gate

    @property
    def knobs(self) -> dict[str, Knob]:
        """The gate's."""
        return self.gate.knobs

    @property
    def steps_per_token(self) -> int:
        """A token may take a whole dropped step before it, and what the target reads of earlier ones."""
        return self.width + 4

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for what the models or the gate cannot serve."""
        if request.order is not None:
            raise ValueError("routing of steps continues prompts, got an order of generation")
        self.segment.check(self.model.vocab_size)
        self.drafter.check(request, params)
        self.gate.check(request, params)
        if self.rewrite:
            self.drafter.check_drops(request)
            if self.gate.reads or self.gate.compares:
                self.writer.check_drops(request)

    def init(self, params: Params, request: Request) -> RoutingState:
        """Reads the prompts with both models."""
        rows = Rows.start(request, self.model.vocab_size)
        return RoutingState(
            rows=rows,
            settings=request.settings,
            cache=read_prompts(self.model, target_params(params), request)[0],
            draft=prefill(self.draft, self.drafter.own(params), request),
            drafted=Candidate.start(rows, self.width),
            written=Candidate.start(rows, self.width),
            target_writes=jnp.zeros(rows.length.shape, bool),
            log_probs=jnp.zeros(rows.length.shape, jnp.float32),
            gate=self.gate.start(rows),
        )

    def step(
        self, params: Params, state: RoutingState, rng: jax.Array
    ) -> tuple[RoutingState, Info]:
        """A token of each row, by whoever writes it; steps that have ended are judged and committed."""
        rows = state.rows
        limited = self.segment.limited(state.settings, rows, Pool.of(rows))
        drafting = rows.running & ~state.target_writes
        draft, drafted, draft_cost = self.drafter.write(
            self.drafter.own(params),
            state.draft,
            state.drafted,
            rows,
            limited,
            drafting & state.drafted.rows.running,
            rng,
        )
        ended = drafting & ~drafted.rows.running
        state = dataclasses.replace(state, draft=draft, drafted=drafted)
        state, kept, cost = self._judge(params, state, ended)
        dropped = ended & ~kept & self.rewrite
        writing = (rows.running & state.target_writes) | dropped
        cache, written, target_cost = self.writer.write(
            target_params(params),
            state.cache,
            state.written,
            rows,
            limited,
            writing & state.written.rows.running,
            rng,
        )
        state = dataclasses.replace(state, cache=cache, written=written, target_writes=writing)
        finished = writing & ~written.rows.running
        from_draft = ended & ~dropped
        if self.gate.compares:
            state, kept = self._kept(params, state, finished)
            from_draft = kept
        turn = _Turn(ended, kept, from_draft, from_draft | finished)
        judging = ended.astype(jnp.int32) * self.gate.draft_forwards
        draft_cost = dataclasses.replace(draft_cost, forwards=draft_cost.forwards + judging)
        return self._commit(state, turn, cost + target_cost, draft_cost)

    def _judge(
        self, params: Params, state: RoutingState, ended: jax.Array
    ) -> tuple[RoutingState, jax.Array, Cost]:
        """Which drafted steps are kept, of rows whose steps have ended."""
        cost = self.writer.cost(jnp.zeros_like(ended))
        if self.gate.compares:
            return state, jnp.zeros_like(ended), cost
        if self.gate.reads:
            read = lambda held: self._read(params, state, held, ended)
            cache, drafted = once(ended.any(), read, (state.cache, state.drafted))
            state = dataclasses.replace(state, cache=cache, drafted=drafted)
            cost = self.writer.cost(ended, self.width)
        state, kept = self._kept(params, state, ended)
        if self.gate.reads and self.rewrite:
            state = dataclasses.replace(state, cache=_back(state.cache, state.rows, ended & ~kept))
        return state, kept, cost

    def _read(
        self,
        params: Params,
        state: RoutingState,
        held: tuple[Any, Candidate],
        ended: jax.Array,
    ) -> tuple[Any, Candidate]:
        """The target's forward of drafted steps, and what it says of their tokens."""
        cache, drafted = held
        rows, count = state.rows, drafted.count(state.rows)
        tokens = drafted.rows.window(rows.length - 1, self.width)
        count = jnp.where(ended, count, 0)
        cache, output = read_on(self.model, target_params(params), cache, tokens, count)
        follow = drafted.rows.window(rows.length, self.width)[..., None]
        own = jnp.take_along_axis(output.logits, follow, axis=-1)[..., 0]
        own -= jax.nn.logsumexp(output.logits, axis=-1)
        top = top_tokens(output.logits, rows.top_log_probs)
        found = Written(drafted.written.log_probs, own, top)
        found = chosen(ended, found, drafted.written)
        return cache, dataclasses.replace(drafted, written=found)

    def _kept(
        self, params: Params, state: RoutingState, ready: jax.Array
    ) -> tuple[RoutingState, jax.Array]:
        """The gate's word on steps that are ready, and what it keeps of their rows."""
        judged = Judged(
            rows=state.rows,
            drafted=state.drafted,
            written=state.written if self.gate.compares else None,
            drafter=Reader(self.draft, self.drafter.own(params), state.draft),
            writer=Reader(self.model, target_params(params), state.cache),
            settings=state.settings,
            log_probs=state.log_probs,
            own=state.gate,
            ready=ready,
        )
        decide = lambda held: self.gate.keep(self.gate.own(params), judged)
        kept, own = once(ready.any(), decide, (jnp.zeros_like(ready), state.gate))
        return dataclasses.replace(state, gate=chosen(ready, own, state.gate)), kept & ready

    def _commit(
        self, state: RoutingState, turn: _Turn, target_cost: Cost, draft_cost: Cost
    ) -> tuple[RoutingState, Info]:
        """Takes the steps that are decided into the rows; both models go on from there."""
        before, settings = state.rows, state.settings
        taken = chosen(turn.from_draft, state.drafted, state.written)
        chunk = taken.rows.window(before.length, self.width)
        size = taken.count(before)
        # What the draft model cannot go on with, the target may.
        faulty = taken.faulty & (turn.kept | ~turn.from_draft)
        inside = jnp.arange(self.width) < size[:, None]
        rows, count = before.advance(
            settings,
            chunk,
            jnp.where(turn.committed, size + faulty, 0),
            inside & ~jnp.isnan(taken.written.raw_log_probs),
            room=state.cache.capacity - before.length + 1,
        )
        new = jnp.arange(self.width) < count[:, None]
        total = jnp.sum(jnp.where(new, taken.written.log_probs, 0.0), axis=1)
        draft, cache = state.draft, state.cache
        if self.rewrite:
            draft = _back(draft, before, turn.committed & ~turn.from_draft)
        if self.gate.compares:
            cache = _back(cache, before, turn.committed & turn.from_draft)
        goes_on = turn.from_draft & ~turn.kept
        after = dataclasses.replace(
            state,
            rows=rows,
            cache=cache,
            draft=draft,
            drafted=state.drafted.after(rows, turn.committed),
            written=state.written.after(rows, turn.committed),
            target_writes=jnp.where(turn.committed, goes_on, state.target_writes),
            log_probs=state.log_probs + total,
        )
        proposed = jnp.where(turn.judged, state.drafted.count(before), 0)
        info = Info(
            tokens=chunk,
            start=before.length,
            count=count,
            log_probs=taken.written.log_probs,
            raw_log_probs=taken.written.raw_log_probs,
            drafted=jnp.broadcast_to(turn.from_draft[:, None], chunk.shape),
            proposed=proposed,
            accepted=jnp.where(turn.from_draft, size, 0),
            target_forwards=target_cost.forwards,
            target_rows=target_cost.positions,
            draft_forwards=draft_cost.forwards,
            status=rows.status,
            steps=jnp.broadcast_to(before.rounds[:, None], chunk.shape),
            top=taken.written.top,
            own={"judged": turn.judged, "kept": turn.kept},
        )
        return after, info


def _back(cache: Any, rows: Rows, dropped: jax.Array) -> Any:
    """A cache of committed text alone, but for its last token, where a step is `dropped [B]`."""
    length = jnp.where(dropped, rows.length - 1, cache.length)
    return once(dropped.any(), lambda held: held.back_to(length), cache)


@typed
def step_routing(
    target: Model, draft: Model, gate: Gate, *, segment: Segment, rewrite: bool = True
) -> StepRouting:
    """A draft model writes steps, and a gate says of each whether it stays; if not, the target takes over for a step.

        draft writes a step;  kept: the draft goes on from it
                              not kept: it is dropped and the target writes one in its place (rewrite),
                              or it stays and the target writes the next one (not rewrite)

    Each row is in a step of its own: in one step of the loop some rows write with the draft model and others with the
    target, and a model of which no row needs a forward has none. The target reads what was kept only where it has to go
    on from it, in chunks of W tokens, so that its forwards are what is saved. A step is committed as a whole, once it
    is decided: a stream takes nothing back.

    Both models draw with the noise of the row and the position, so that a draft that is always kept is plain decoding
    with the draft model, and one that never is plain decoding with the target, token for token.

    `raw_log_probs` of drafted tokens are the draft model's own, unless the gate has the target read them.

    Args:
      target: the target, `params["target"]`.
      draft: a model of its vocabulary, `params["draft"]`.
      gate: from `jaxdec.search.gates`.
      segment: a step; W tokens at most, such as `until([newline], most=64)`.
      rewrite: whether a step that is not kept is dropped.

    Raises:
      ValueError: for segments without a bound, models of different vocabularies, or a gate that compares where nothing
        is dropped.

    Exactness: heuristic.
    """
    if segment.most is None:
        raise ValueError("segments need a bound, such as until([10], most=64); got most=None")
    if draft.vocab_size != target.vocab_size:
        raise ValueError(
            f"the draft model has a vocabulary of {draft.vocab_size}, the target one of {target.vocab_size}"
        )
    if gate.compares and not rewrite:
        raise ValueError(f"{type(gate).__name__} chooses between two steps: it needs rewrite=True")
    return StepRouting(target, draft, gate, segment, rewrite)
