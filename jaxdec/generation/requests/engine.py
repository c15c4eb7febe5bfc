"""The host's side of the slot engine: requests in, completed ones out.

Legend: B slots, Q places of the queue, N places of the output ring, P prompt width, L buffer width.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdec.cache import Cache
from jaxdec.decoding import (
    Decoder,
    Status,
    check_decoder,
    check_parts,
    integers,
    part_names,
)
from jaxdec.generation.requests import identity, programs, saving, serving
from jaxdec.generation.requests.arguments import divided, manner, reads_limit
from jaxdec.generation.requests.backlog import Backlog, Live
from jaxdec.generation.requests.call import Call, Template
from jaxdec.generation.requests.completed import Completed, Refused, completed, unstarted
from jaxdec.generation.requests.policies import FirstCome, Policy
from jaxdec.generation.requests.prefixes import read_prefixes
from jaxdec.generation.requests.slot_engine import SlotEngine
from jaxdec.generation.requests.state import Finished
from jaxdec.generation.requests.waiting import NEVER, NOBODY, Waiting
from jaxdec.model import Params
from jaxdec.parallel import DATA, Placement
from jaxdec.text import Tokenizer


class Engine:
    """Serves requests with any decoder, B at a time, in one compiled loop; see the page on requests.

    A request's tokens are those of `generate` (or `infill`) with the same arguments alone, whatever else runs, whenever
    it gets a slot. What requests may set beside their prompts, keys, budgets and stops is named when the engine is
    made; no mix of requests compiles anything after that.

    Args:
      decoder: such as `jaxdec.autoregressive(model)`.
      params: parameters by part name.
      slots: B, rows that decode at once.
      places: Q, requests that wait on the device at most.
      ring: N, requests that can end in one run; B if not given.
      max_prompt: tokens of a prompt at most (of visible ones, with gaps).
      max_new_tokens: at most, of each request.
      gaps: whether requests fill gaps, as those of `infill` do.
      chunk: tokens of a prompt that are read between two steps of the rows.
      reads: chunks that are read between two steps at most while rows run; None for as many as free slots need, which
        is the best for throughput and the worst for the rows that wait.
      policy: the order in which requests are taken.
      prefixes: beginnings that several prompts have, token sequences: each is read once, and a prompt that begins with
        one goes on from there. Only for causal targets, whose prompts are read in chunks.
      stop_room: how many eos tokens, stop sequences, and tokens of a sequence a request may have.
      stop_strings: sets of stop strings, one of which a request may name.
      tokenizer: for `stop_strings`.
      top_log_probs: as in `generate`.
      cache: as in `generate`.
      placement: as in `generate`: slots, places and ring are divided over the devices of `"data"`.
      **knobs: the settings that requests may change (`jaxdec.sampling.Warp`), with the values of those that do not.

    Raises:
      ValueError: for impossible arguments, naming the value and the limit.

    Exactness: the decoder's; a request's tokens depend on nothing but itself.
    Source: Flover (2305.13484) fuses requests that arrive in the course of time into one batch; here it is done inside
    the compiled loop. `policies.SameRemaining` is EXSPEC's grouping (2510.22876).
    """

    def __init__(
        self,
        decoder: Decoder,
        params: Params,
        *,
        slots: int = 8,
        places: int = 64,
        ring: int | None = None,
        max_prompt: int = 128,
        max_new_tokens: int = 128,
        gaps: bool = False,
        chunk: int = 64,
        reads: int | None = None,
        policy: Policy | None = None,
        prefixes: Sequence[Sequence[int]] = (),
        stop_room: tuple[int, int, int] = (4, 4, 8),
        stop_strings: Sequence[Any] = (),
        tokenizer: Tokenizer | None = None,
        top_log_probs: int = 0,
        cache: Callable[[Any], Cache] | None = None,
        placement: Placement | None = None,
        **knobs: Any,
    ):
        check_decoder(decoder)
        check_parts(params, part_names(decoder))
        lanes = 1 if placement is None else placement.size(DATA)
        self.lanes, self.placement = lanes, placement
        self.slots, self.places = (
            divided(name, value, lanes) for name, value in (("slots", slots), ("places", places))
        )
        ring = divided("ring", slots if ring is None else ring, lanes)
        policy = FirstCome() if policy is None else policy
        if not isinstance(policy, Policy):
            raise ValueError(f"policy must be a Policy, got {policy!r}")
        self._reads = reads_limit(reads)
        self.template = Template.create(
            decoder,
            params,
            max_prompt=max_prompt,
            max_new_tokens=max_new_tokens,
            gaps=gaps,
            room=stop_room,
            stop_strings=stop_strings,
            tokenizer=tokenizer,
            knobs=knobs,
            top_log_probs=top_log_probs,
            cache=cache if placement is None else placement.split_caches(cache),
        )
        request = self.template.request
        chunk = int(integers("chunk", chunk, [()], low=1))
        # A chunk is written whole at the last token of a prompt.
        chunk = min(chunk, request.prompt.shape[1], request.capacity - request.prompt.shape[1])
        self._engine = SlotEngine(decoder, policy, chunk, ring)
        self._params = params if placement is None else placement.place(params)
        self._state = programs.start(
            self._engine,
            placement,
            self._params,
            request,
            jax.random.key(0),
            self.slots,
            self.places,
        )
        self._live: dict[int, Live] = {}
        self._dropped: dict[int, Status] = {}
        self._backlog = Backlog(lanes, self.places)
        self._next, self._group, self._clock = 0, 0, [0] * lanes
        self.counts: dict[str, int] = {}
        self._state, self._prefixes = read_prefixes(
            self._engine, placement, self._params, self._state, self.template, prefixes
        )

    @property
    def pending(self) -> int:
        """Requests (samples) that are not completed."""
        return len(self._live)

    @property
    def room(self) -> int:
        """Requests (samples) that can be submitted before the next `poll`, in the emptiest lane."""
        return self._backlog.room

    @property
    def occupancy(self) -> float:
        """Share of slots that ran, over all steps so far."""
        steps = self.counts.get("steps", 0) * self.slots
        return self.counts.get("busy", 0) / steps if steps else 0.0

    def submit(self, call: Call) -> list[int]:
        """Puts a request into the queue; returns the ids of its samples.

        Raises:
          ValueError: for a request that cannot be served, naming the value and the limit; nothing was queued then.
          queue.Full: if there is no room; see `room`.
        """
        samples, priority, deadline, timeout = manner(call)
        request, keys = self.template.row(call)
        lane = self._backlog.lane_for(samples)
        last = NEVER if deadline is None else deadline + self._clock[lane]
        until = None if timeout is None else time.monotonic() + timeout
        ids = list(range(self._next, self._next + samples))
        self._next += samples
        self._group += 1
        order = None if request.order is None else np.asarray(request.order.places)[0]
        number = lambda value: np.full((1,), value, np.int32)
        for sample, name in enumerate(ids):
            waiting = Waiting(
                request=request,
                keys=keys,
                sample=number(sample),
                ids=number(name),
                arrival=number(name),
                priority=number(priority),
                deadline=number(min(last, NEVER)),
                group=number(self._group if samples > 1 else -1),
                prefix=number(self._prefixes.longest(request)),
            )
            self._backlog.add(lane, name, waiting)
            self._live[name] = Live(call, sample, lane, order, until, int(request.lengths[0]))
        return ids

    def warm_up(self) -> None:
        """Compiles all programs, so that no later request waits for one; takes no time if it was done before.

        Raises:
          ValueError: if the engine has requests already, whose results would be lost.
        """
        if self.pending:
            raise ValueError(f"{self.pending} requests are not completed; warm up before the first")
        served = self.submit(self.template.blank)
        self.cancel(served)
        self.poll(1)

    def cancel(self, ids: int | Iterable[int], status: Status = Status.CANCELLED) -> None:
        """Takes requests back; each is completed at the next `poll` with what it has. Unknown ids are ignored."""
        given = [ids] if isinstance(ids, int | np.integer) else list(ids)
        named = [int(name) for name in given if int(name) in self._live]
        self._flush()
        for begin in range(0, len(named), 16):
            part = named[begin : begin + 16]
            some = np.asarray(part + [NOBODY] * (16 - len(part)), np.int32)
            self._state = programs.cancel(
                self._engine, self.placement, self._state, some, np.int32(status)
            )
        self._dropped.update(dict.fromkeys(named, status))

    def poll(self, steps: int = 32) -> list[Completed]:
        """Runs the loop for at most so many steps, and returns the requests that have ended.

        It returns sooner once nothing is left to do, or as many have ended as the ring holds.
        """
        steps = int(integers("steps", steps, [()], low=0))
        now = time.monotonic()
        late = [
            name
            for name, live in self._live.items()
            if live.until is not None and live.until <= now
        ]
        if late:
            self.cancel(late, Status.DEADLINE)
        self._flush()
        self._state, finished = programs.advance(
            self._engine, self.placement, self._params, self._state, np.int32(steps), self._reads
        )
        return self._collect(finished)

    def new_tokens(self) -> dict[int, np.ndarray]:
        """Tokens of running requests that this has not given before, by id; for what is `Completed`, look there."""
        slots = self._state.slots
        rows = slots.rows
        ids, tokens, lengths = jax.device_get((slots.ids, rows.tokens, rows.length))
        found = {}
        for name, row, length in zip(ids.tolist(), tokens, lengths.tolist(), strict=True):
            live = self._live.get(name)
            if live is not None and length > live.seen:
                found[name] = row[live.seen : length]
                live.seen = length
        return found

    def serve(
        self,
        calls: Iterable[Call],
        *,
        steps: int = 32,
        journal: str | Path | None = None,
        every: int = 64,
        replay: bool = False,
        skip: bool = True,
    ) -> Iterator[Completed | Refused]:
        """Takes requests from an iterable as there is room, and yields them as they end.

        A request that cannot be served comes back as `Refused` and disturbs nobody.

        Args:
          calls: asked for the next one only when there is room for it.
          steps: of the loop between two looks at what has ended.
          journal: a folder in which requests are written before they run, results before they are yielded, and the
            engine from time to time. After the process was killed, the same call, of an engine made alike, goes on:
            every request that was taken is completed once, under its old id, with the tokens it would have had.
          every: looks between two times that the engine is saved.
          replay: whether what the journal says has come back is yielded first; else it is not yielded again.
          skip: whether `calls` begins from the start again, so that as many are passed over as were taken before; not
            for what gives each request once, such as a queue.

        Raises:
          ValueError: for a journal that is damaged, in use, or of an engine that decodes otherwise.
        """
        return serving.serve(
            self, calls, steps=steps, journal=journal, every=every, replay=replay, skip=skip
        )

    def save(self, folder: str | Path) -> None:
        """Writes the engine to a new folder, whole or not at all; between two polls, at any time.

        Raises:
          ValueError: if the folder holds something, or a request something that cannot be stored, such as its tag.
        """
        saving.save(self, folder)

    def load(self, folder: str | Path) -> None:
        """Goes on from where an engine made with the same arguments was saved: ids, tokens and order are as there.

        Timeouts go on with the seconds that were left.

        Raises:
          ValueError: if the folder is damaged or of an engine made otherwise, naming what differs, or if this one has
            requests that are not completed; nothing is changed then.
        """
        saving.load(self, folder)

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What the tokens of requests depend on beside them, as `save` writes it; of parameters, sums."""
        return identity.decodes(self)

    def _flush(self) -> None:
        """Sends what was submitted to the device, in pieces of one size."""
        for piece in self._backlog.pieces():
            self._state = programs.push(self._engine, self.placement, self._state, piece)

    def _collect(self, finished: Finished) -> list[Completed]:
        state = self._state
        held = state.queue.ids, state.staged.ids, state.slots.ids
        ring, (queued, staged, running), clock, counts = jax.device_get(
            (finished, held, state.clock, state.counts)
        )
        self._clock = clock.tolist()
        for field in dataclasses.fields(counts):
            done = int(getattr(counts, field.name).sum())
            self.counts[field.name] = self.counts.get(field.name, 0) + done
        self._backlog.seen(queued)
        found = []
        for place in np.flatnonzero(ring.ids != NOBODY):
            name = int(ring.ids[place])
            live = self._forget(name)
            found.append(completed(ring, int(place), live.call, live.sample, live.order))
        left = {*queued.tolist(), *staged.tolist(), *running.tolist()}
        for name, status in list(self._dropped.items()):
            if name not in self._live:
                del self._dropped[name]
            elif name not in left:
                live = self._forget(name)
                found.append(unstarted(name, live, status))
        return found

    def _forget(self, name: int) -> Live:
        live = self._live.pop(name)
        self._backlog.load[live.lane] -= 1
        return live
