"""Ways of serving requests that arrive in the course of time: the slot engine, batches, and a loop on the host."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from jaxdec.decoding import (
    Decoder,
    Reading,
    Request,
    Status,
    put_row,
    repeat_row,
    stepped,
    target_params,
)
from jaxdec.generation.requests import Call, Engine
from jaxdec.generation.requests.call import Template
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Load:
    """Requests and when they arrive.

    Attributes:
      calls: N requests, each of one sample, with their numbers as tags.
      arrivals: float `[N]`, seconds from the start, ascending; zeros for a backlog.
    """

    calls: Sequence[Call]
    arrivals: np.ndarray

    @classmethod
    def poisson(cls, calls: Sequence[Call], rate: float, seed: int) -> "Load":
        """Requests that arrive independently of one another, `rate` of them a second."""
        gaps = np.random.default_rng(seed).exponential(1 / rate, len(calls))
        return cls(calls, np.cumsum(gaps) - gaps[0])

    @classmethod
    def backlog(cls, calls: Sequence[Call]) -> "Load":
        """Requests that are all there at the start."""
        return cls(calls, np.zeros(len(calls)))


@dataclasses.dataclass
class Served:
    """What became of a load.

    Attributes:
      arrivals: float `[N]`, as in the load.
      first: float `[N]`, seconds at which the first new token was known.
      last: float `[N]`, likewise of the last.
      tokens: N arrays of new tokens.
      occupancy: share of the slots that ran, over the steps in which requests waited for one; NaN if none ever did.
    """

    arrivals: np.ndarray
    first: np.ndarray
    last: np.ndarray
    tokens: list[np.ndarray]
    occupancy: float = float("nan")

    @classmethod
    def of(cls, load: Load) -> "Served":
        """Nothing yet."""
        count = len(load.calls)
        unknown = np.full(count, np.nan)
        return cls(load.arrivals, unknown.copy(), unknown.copy(), [np.zeros(0, np.int32)] * count)

    def done(self, number: int, tokens: np.ndarray, now: float) -> None:
        """A request has ended."""
        self.tokens[number] = tokens
        self.last[number] = now
        if np.isnan(self.first[number]):
            self.first[number] = now

    @property
    def total(self) -> int:
        """New tokens of all requests."""
        return sum(map(len, self.tokens))

    def rate(self) -> float:
        """New tokens a second, from the first arrival to the end."""
        return self.total / float(self.last.max())

    def waits(self) -> dict[str, np.ndarray]:
        """Seconds `[N]` to the first token, of a token after it, and in all."""
        counts = np.array([len(row) for row in self.tokens])
        return {
            "first": self.first - self.arrivals,
            "token": (self.last - self.first) / np.maximum(counts - 1, 1),
            "whole": self.last - self.arrivals,
        }


class Server(Protocol):
    """Serves loads one after another."""

    def serve(self, load: Load) -> Served:
        """Until all requests have ended."""


@dataclasses.dataclass(frozen=True)
class Slotted:
    """The slot engine.

    Attributes:
      engine: with nothing to do.
      steps: of the loop between two looks at it.
      streams: whether tokens are fetched between the looks, so that it is known when the first one was there.
    """

    engine: Engine
    steps: int
    streams: bool

    def serve(self, load: Load) -> Served:
        """Requests are sent as they arrive, as far as there is room for them."""
        engine, served, start, sent = self.engine, Served.of(load), time.perf_counter(), 0
        numbers: dict[int, int] = {}
        before = after = dict(engine.counts)
        while sent < len(load.calls) or engine.pending:
            now = time.perf_counter() - start
            while sent < len(load.calls) and load.arrivals[sent] <= now and engine.room:
                (name,) = engine.submit(load.calls[sent])
                numbers[name], sent = sent, sent + 1
            if not engine.pending:
                time.sleep(max(load.arrivals[sent] - now, 0))
                continue
            ended = engine.poll(self.steps)
            if sent < len(load.calls) or engine.pending > engine.slots:
                after = dict(engine.counts)
            streamed = engine.new_tokens() if self.streams else {}
            now = time.perf_counter() - start
            for name in streamed:
                if np.isnan(served.first[numbers[name]]):
                    served.first[numbers[name]] = now
            for done in ended:
                served.done(numbers[done.id], done.new_tokens, now)
        steps, busy = (after.get(n, 0) - before.get(n, 0) for n in ("steps", "busy"))
        served.occupancy = busy / (steps * engine.slots) if steps else float("nan")
        return served


@dataclasses.dataclass(frozen=True)
class Batches:
    """Static batches: as many requests as there are slots, or as have arrived, decoded until the last one ends.

    Attributes:
      decoder: the algorithm.
      params: by part name.
      slots: B.
      most: new tokens of a request.
      knobs: of all requests.
    """

    decoder: Decoder
    params: Params
    slots: int
    most: int
    knobs: Any

    def serve(self, load: Load) -> Served:
        """In order of arrival."""
        served, start, sent = Served.of(load), time.perf_counter(), 0
        while sent < len(load.calls):
            now = time.perf_counter() - start
            there = int(np.searchsorted(load.arrivals, now, "right")) - sent
            if there < 1:
                time.sleep(max(load.arrivals[sent] - now, 0))
                continue
            numbers = list(range(sent, sent + min(there, self.slots)))
            rows = self._decode([load.calls[number] for number in numbers])
            now = time.perf_counter() - start
            for number, row in zip(numbers, rows, strict=True):
                served.done(number, row, now)
            sent += len(numbers)
        return served

    def warm(self, longest: int) -> None:
        """Compiles what batches of prompts of at most so many tokens take."""
        width = 32
        while True:
            self._decode([Call(np.zeros(min(width, longest), np.int32), max_new_tokens=1)])
            if width >= longest:
                return
            width *= 2

    def _decode(self, calls: list[Call]) -> list[np.ndarray]:
        """New tokens of each; rows that are left over end at once."""
        lengths = np.ones(self.slots, np.int32)
        lengths[: len(calls)] = [len(call.prompt) for call in calls]
        prompts = np.zeros((self.slots, lengths.max()), np.int32)
        budgets, seeds = np.zeros(self.slots, np.int32), [0] * self.slots
        for row, call in enumerate(calls):
            prompts[row, : lengths[row]] = call.prompt
            budgets[row], seeds[row] = call.max_new_tokens, call.rng
        result = jaxdec.generate(
            self.decoder,
            self.params,
            prompts,
            lengths=lengths,
            rng=seeds,
            max_new_tokens=budgets,
            most_new_tokens=self.most,
            eos=(),
            **self.knobs,
        )
        tokens, ends = np.asarray(result.tokens), np.asarray(result.lengths)
        return [tokens[row, lengths[row] : ends[row]].copy() for row in range(len(calls))]


class HostLoop:
    """Continuous batching by the host: one compiled step, after which the host sees what ended and refills the rows.

    The step, the chunked reading of a prompt and the insertion into a row are those of the slot engine, each a program;
    tokens are fetched when a row ends, and nothing else is recorded.

    Args:
      template: of the requests, an engine's.
      slots: B.
      chunk: tokens of a prompt that are read at once.
    """

    def __init__(self, template: Template, slots: int, chunk: int):
        self.template, self.slots, self.chunk = template, slots, chunk
        request = template.request
        settings = dataclasses.replace(request.settings, max_new_tokens=np.zeros(1, np.int32))
        self._nothing = dataclasses.replace(request, settings=settings)
        self._empty = _empty(template.decoder, chunk, template.params, self._nothing)
        self._state = _start(template.decoder, template.params, self._nothing, slots)
        self._keys = jax.random.split(jax.random.key(0), slots)

    def serve(self, load: Load) -> Served:
        """In order of arrival."""
        served, start, sent = Served.of(load), time.perf_counter(), 0
        owners: list[int | None] = [None] * self.slots
        steps = busy = 0
        decoder, params = self.template.decoder, self.template.params
        while sent < len(load.calls) or any(owner is not None for owner in owners):
            now = time.perf_counter() - start
            for at in range(self.slots):
                if owners[at] is None and sent < len(load.calls) and load.arrivals[sent] <= now:
                    self._admit(load.calls[sent], at)
                    owners[at], sent = sent, sent + 1
            if all(owner is None for owner in owners):
                time.sleep(max(load.arrivals[sent] - now, 0))
                continue
            self._state, status = _step(decoder, params, self._state, self._keys)
            if sent < len(load.calls):
                steps, busy = steps + 1, busy + sum(owner is not None for owner in owners)
            self._look(np.asarray(status), owners, served, start)
        served.occupancy = busy / (steps * self.slots) if steps else float("nan")
        return served

    def _admit(self, call: Call, at: int) -> None:
        request, keys = self.template.row(call)
        template = self.template
        self._state, self._keys = _admit(
            template.decoder,
            self.chunk,
            template.params,
            self._state,
            self._keys,
            request,
            keys,
            self._empty,
            np.int32(at),
        )

    def _look(
        self, status: np.ndarray, owners: list[int | None], served: Served, start: float
    ) -> None:
        """What the host does after a step: it takes the rows that have ended."""
        now, rows = time.perf_counter() - start, self._state.rows
        ended = [
            at
            for at, owner in enumerate(owners)
            if owner is not None and status[at] != Status.RUNNING
        ]
        if ended:
            found = jax.device_get((rows.tokens, rows.prompt_length, rows.length))
        for owner in owners:
            if owner is not None and np.isnan(served.first[owner]):
                served.first[owner] = now
        for at in ended:
            number, (tokens, begins, ends) = owners[at], found
            assert number is not None
            served.done(number, tokens[at, begins[at] : ends[at]].copy(), now)
            owners[at] = None


@functools.partial(jax.jit, static_argnums=(0, 1))
def _empty(decoder: Decoder, chunk: int, params: Params, request: Request) -> Reading:
    return Reading.start(decoder.model, target_params(params), request, chunk)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _start(decoder: Decoder, params: Params, request: Request, slots: int) -> Any:
    return repeat_row(decoder.init(params, request), slots)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _step(decoder: Decoder, params: Params, state: Any, keys: jax.Array) -> tuple[Any, jax.Array]:
    state, _ = stepped(decoder, params, state, keys)
    return state, state.rows.status + jnp.int32(0)  # the state is given away, this is not


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 4))
def _admit(
    decoder: Decoder,
    chunk: int,
    params: Params,
    state: Any,
    keys: jax.Array,
    request: Request,
    key: jax.Array,
    empty: Reading,
    at: jax.Array,
) -> tuple[Any, jax.Array]:
    """Reads a prompt chunk by chunk and puts it into a row."""
    end = request.lengths - 1
    reading = jax.lax.while_loop(
        lambda reading: (reading.done < end).all(),
        lambda reading: reading.read(
            decoder.model, target_params(params), request.prompt, end, chunk
        ),
        empty,
    )
    fresh = decoder.init(params, dataclasses.replace(request, read=reading))
    return put_row(state, fresh, at), keys.at[at].set(key[0])
