"""The slot engine: requests take turns in the rows of one compiled loop.

    repeat:   take, read, insert     while there is a free slot, or a prompt to read ahead
              step                   of the decoder, all rows
              evict                  rows that have ended, into the output ring

Prompts are read in chunks between the steps of rows that run, one at a time, into a cache of their own; a request gets
a slot, by copying that cache's one row, in the step after a row ended. Nothing is computed on the host.

Legend: B slots, Q places of the queue, N places of the output ring, C tokens of a chunk, G prefixes.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.cache import Cache
from jaxdec.decoding import (
    Decoder,
    Reading,
    Record,
    Request,
    Status,
    after,
    once,
    put_row,
    repeat_row,
    stepped,
    target_params,
)
from jaxdec.generation.requests.policies import Policy
from jaxdec.generation.requests.state import Counts, EngineState, Finished, Slots
from jaxdec.generation.requests.waiting import NEVER, NOBODY, Waiting
from jaxdec.model import Params
from jaxdec.parallel import over_caches

NO_LIMIT = np.int32(2**30)
"""Chunks a step, where rows that run need not be spared."""


@dataclasses.dataclass(frozen=True)
class SlotEngine:
    """Pure functions on an `EngineState`; compares by value, and is a static part of a program.

    Attributes:
      decoder: of any family.
      policy: which request is taken next.
      chunk: C.
      ring: N.
    """

    decoder: Decoder
    policy: Policy
    chunk: int
    ring: int

    def reads_in_chunks(self, request: Request) -> bool:
        """Whether prompts can be: those of causal targets. Others see themselves whole, and are read at once."""
        canvas = getattr(self.decoder, "fills_canvas", False)
        return request.order is None and not canvas and self.decoder.model.causal

    def start(
        self, params: Params, request: Request, key: jax.Array, slots: int, places: int
    ) -> EngineState:
        """An engine with nothing to do.

        Args:
          params: parameters by part name.
          request: of one row, with everything that requests may set; its values do not matter.
          key: any.
          slots: B.
          places: Q.
        """
        nothing = dataclasses.replace(
            request,
            settings=dataclasses.replace(
                request.settings, max_new_tokens=jnp.zeros((1,), jnp.int32)
            ),
        )
        state = repeat_row(self.decoder.init(params, nothing), slots)
        number = lambda value: jnp.full((slots,), value, jnp.int32)
        nobody = Waiting.nobody(nothing, key)
        reading = None
        if self.reads_in_chunks(request):
            model = self.decoder.model
            reading = Reading.start(model, target_params(params), nothing, self.chunk)
        return EngineState(
            slots=Slots(
                state=state,
                record=Record.start(state.rows),
                ids=number(NOBODY),
                keys=jnp.repeat(key[None], slots, axis=0),
                budget=number(0),
                deadline=number(0),
                started=number(0),
            ),
            queue=repeat_row(nobody, places),
            staged=nobody,
            reading=reading,
            prefixes=reading,
            clock=jnp.zeros((1,), jnp.int32),
            counts=Counts.start(),
        )

    def read_prefix(
        self, params: Params, state: EngineState, tokens: jax.Array, end: jax.Array
    ) -> Reading:
        """A beginning of prompts, read from its first token to its last.

        Args:
          params: parameters by part name.
          state: of an engine that reads in chunks.
          tokens: int32 `[1, P]`.
          end: int32 `[1]`, how many.
        """
        assert state.prefixes is not None
        model, own = self.decoder.model, target_params(params)
        empty = _row_of(state.prefixes, jnp.int32(0))
        return jax.lax.while_loop(
            lambda reading: (reading.done < end).all(),
            lambda reading: reading.read(model, own, tokens, end, self.chunk),
            empty,
        )

    def push(self, state: EngineState, others: Waiting) -> EngineState:
        """Puts requests into the queue; see `Waiting.push`."""
        return dataclasses.replace(state, queue=state.queue.push(others))

    def cancel(self, state: EngineState, ids: jax.Array, status: jax.Array) -> EngineState:
        """Takes requests out of the queue, and ends those that have a slot.

        Args:
          state: of the engine.
          ids: int32 `[M]`, of requests; `NOBODY` for none.
          status: int32 `[]`, with which rows end, `Status.CANCELLED` or `Status.DEADLINE`.
        """
        named = lambda own: ((own[:, None] == ids) & (ids != NOBODY)).any(1)
        return dataclasses.replace(
            state,
            queue=state.queue.without(named(state.queue.ids)),
            staged=state.staged.without(named(state.staged.ids)),
            slots=state.slots.end(named(state.slots.ids), status),
        )

    def advance(
        self, params: Params, state: EngineState, max_steps: jax.Array, reads: jax.Array
    ) -> tuple[EngineState, Finished]:
        """Runs until nothing is left to do, the ring is full or `max_steps` were taken, in one `lax.while_loop`.

        Args:
          params: parameters by part name.
          state: of the engine.
          max_steps: int32 `[]`.
          reads: int32 `[]`, chunks that are read between two steps at most while rows run; `NO_LIMIT` fills free slots
            first.

        Returns:
          The state, and the requests that have ended.
        """
        state = dataclasses.replace(state, counts=Counts.start())

        def going(carry):
            state, finished = carry
            left = ~state.slots.free.all() | state.staged.there.any() | state.queue.there.any()
            room = (finished.count < self.ring).all()
            return left & room & (state.counts.steps < max_steps).all()

        def body(carry):
            state, finished = carry
            state = self.step(params, self.admit(params, state, reads))
            return self.evict(state, finished)

        return jax.lax.while_loop(going, body, (state, Finished.start(state.slots, self.ring)))

    def step(self, params: Params, state: EngineState) -> EngineState:
        """One step of the decoder; rows whose deadline has come end before it."""
        late = (state.slots.deadline <= state.clock) & (state.slots.deadline < NEVER)
        slots = state.slots.end(late, Status.DEADLINE)
        running = slots.rows.running.sum(dtype=jnp.int32)
        after, info = stepped(self.decoder, params, slots.state, slots.keys)
        counts = dataclasses.replace(
            state.counts, steps=state.counts.steps + 1, busy=state.counts.busy + running
        )
        slots = dataclasses.replace(slots, state=after, record=slots.record.add(info))
        return dataclasses.replace(state, slots=slots, clock=state.clock + 1, counts=counts)

    def evict(self, state: EngineState, finished: Finished) -> tuple[EngineState, Finished]:
        """Moves the requests that have ended out of their slots, as many as the ring has room for."""
        ring, gone = jax.lax.cond(
            state.slots.ended.any(),
            lambda: finished.add(state.slots, state.clock),
            lambda: (finished, jnp.zeros_like(state.slots.free)),
        )
        ids = jnp.where(gone, NOBODY, state.slots.ids)
        slots = dataclasses.replace(state.slots, ids=ids)
        return dataclasses.replace(state, slots=slots), ring

    def admit(self, params: Params, state: EngineState, reads: jax.Array) -> EngineState:
        """Takes requests, reads their prompts and gives them slots, as far as there are any and `reads` allows."""
        before = state.counts.reads
        state = self.prepare(params, state, before, reads)

        def ready(state):
            # What was read in chunks is inserted at no cost; a prompt that is read at once counts as one.
            spare = state.reading is not None or self._spare(state, before, reads)
            return self._complete(state) & state.slots.free.any() & spare

        def one(state):
            return self.prepare(params, self.insert(params, state), before, reads)

        # No branch holds the slots: what is carried through a loop is updated in place, whatever stands around it.
        return jax.lax.while_loop(ready, one, state)

    def prepare(
        self, params: Params, state: EngineState, before: jax.Array, reads: jax.Array
    ) -> EngineState:
        """Takes the next request if none is staged, and reads what `reads` allows of its prompt.

        Args:
          params: parameters by part name.
          state: of the engine.
          before: int32 `[1]`, `counts.reads` after the last step.
          reads: as in `advance`.
        """
        wanted = ~state.staged.there.all() & state.queue.there.any()
        state = _if(wanted, self.take, state, ("queue", "staged", "reading"))

        def left(state):
            staged = state.staged.there.all()
            return staged & ~self._complete(state) & self._spare(state, before, reads)

        if state.reading is None:
            return state
        read = lambda state: self.read(params, state)
        return _while(left, read, state, ("reading", "counts"))

    def _spare(self, state: EngineState, before: jax.Array, reads: jax.Array) -> jax.Array:
        """Whether another prompt, or a chunk of one, may be read before the next step, bool `[]`."""
        return ((state.counts.reads - before) < reads).all() | ~state.slots.rows.running.any()

    def _complete(self, state: EngineState) -> jax.Array:
        """Whether a request is staged and its prompt was read, bool `[]`."""
        staged = state.staged.there.all()
        if state.reading is None:
            return staged
        return staged & (state.reading.done >= state.staged.request.lengths - 1).all()

    def take(self, state: EngineState) -> EngineState:
        """Stages the next request of the queue; what was read stays if it has the same prompt as the one before."""
        slots = state.slots
        place = self.policy.pick(state.queue, slots.rows, slots.budget)
        staged = state.queue.at(place)
        same = ((staged.group == state.staged.group) & (staged.group >= 0)).all()
        gone = jnp.arange(state.queue.ids.shape[0]) == place
        state = dataclasses.replace(state, queue=state.queue.without(gone), staged=staged)
        if state.reading is None:
            return state

        def begin(state):
            assert state.prefixes is not None
            return dataclasses.replace(
                state, reading=_row_of(state.prefixes, state.staged.prefix[0])
            )

        return _if(~same, begin, state, ("reading",))

    def read(self, params: Params, state: EngineState) -> EngineState:
        """Reads the next chunk of the staged request's prompt."""
        assert state.reading is not None
        request = state.staged.request
        model, own = self.decoder.model, target_params(params)
        reading = state.reading.read(model, own, request.prompt, request.lengths - 1, self.chunk)
        counts = dataclasses.replace(state.counts, reads=state.counts.reads + 1)
        return dataclasses.replace(state, reading=reading, counts=counts)

    def insert(self, params: Params, state: EngineState) -> EngineState:
        """Gives the staged request the first free slot."""
        slots, staged = state.slots, state.staged
        at = jnp.argmax(slots.free).astype(jnp.int32)
        request = dataclasses.replace(staged.request, read=state.reading)
        fresh = self.decoder.init(params, request)
        own = Slots(
            state=fresh,
            record=Record.start(fresh.rows),
            ids=staged.ids,
            keys=staged.row_keys,
            budget=staged.request.settings.max_new_tokens,
            deadline=staged.deadline,
            started=state.clock,
        )
        counts = dataclasses.replace(
            state.counts,
            inserted=state.counts.inserted + 1,
            reads=state.counts.reads + (state.reading is None),
        )
        slots = put_row(slots, own, at)
        # The next prompt is read into the same cache, once this one was copied out of it.
        caches: list[Cache] = []
        over_caches(caches.append, lambda leaf: None, slots.state)
        gone = dataclasses.replace(staged, ids=after(jnp.full_like(staged.ids, NOBODY), caches))
        return dataclasses.replace(state, slots=slots, staged=gone, counts=counts)


def _row_of(readings: Reading, row: jax.Array) -> Reading:
    """One of several readings, `[1]`."""
    pick = lambda node: (
        node.rows(row[None]) if isinstance(node, Cache) else jax.lax.dynamic_index_in_dim(node, row)
    )
    return jax.tree.map(pick, readings, is_leaf=lambda node: isinstance(node, Cache))


def _while(
    going: Callable[[EngineState], jax.Array],
    change: Callable[[EngineState], EngineState],
    state: EngineState,
    names: tuple[str, ...],
) -> EngineState:
    """`while going(state): state = change(state)`, for a change of some attributes alone."""
    whole = lambda parts: dataclasses.replace(state, **dict(zip(names, parts, strict=True)))
    some = lambda state: tuple(getattr(state, name) for name in names)
    body = lambda parts: some(change(whole(parts)))
    return whole(jax.lax.while_loop(lambda parts: going(whole(parts)), body, some(state)))


def _if(
    holds: jax.Array,
    change: Callable[[EngineState], EngineState],
    state: EngineState,
    names: tuple[str, ...],
) -> EngineState:
    """`if holds: state = change(state)`, for a change of some attributes alone; see `decoding.once`."""
    whole = lambda parts: dataclasses.replace(state, **dict(zip(names, parts, strict=True)))
    some = lambda state: tuple(getattr(state, name) for name in names)
    return whole(once(holds, lambda parts: some(change(whole(parts))), some(state)))
