"""A long stream of requests through the engine, and each of them alone afterwards."""

import collections
import dataclasses
import os
import pickle
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

import jaxdec
from benchmarks.columns import Row
from benchmarks.traffic import Traffic
from jaxdec.decoding import Decoder, Status
from jaxdec.generation.requests import Call, Completed, Engine
from jaxdec.measuring import timing
from jaxdec.model import Params
from jaxdec.sampling import row_keys

WARM = 48
"""Requests before anything is counted, of numbers that the others do not have."""
CUT = (Status.CANCELLED, Status.DEADLINE)
"""Why a request may have less than it has alone."""


@dataclasses.dataclass
class Tally:
    """What was counted.

    Attributes:
      calls: requests that arrived, refused ones included.
      refused: those that were refused.
      wrongly: those that should have been and were not, or the other way round.
      given: samples that were taken in.
      times: by number of the request and sample, how often it came back; empty for those that came back once.
      outcomes: samples by status.
      memory: bytes of the process after each poll.
      compiled: names of programs that were compiled.
      seconds: in all.
    """

    calls: int = 0
    refused: int = 0
    wrongly: int = 0
    given: int = 0
    times: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    outcomes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    memory: list[int] = dataclasses.field(default_factory=list)
    compiled: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    def quarters(self) -> list[float]:
        """Bytes of the process, the mean over each quarter of the polls."""
        return [float(np.mean(part)) for part in np.array_split(np.repeat(self.memory, 4), 4)]


class Soak:
    """Requests that arrive at random while others run; some are taken back.

    Args:
      engine: with nothing to do.
      traffic: what arrives.
      kept: takes in what came back, so that the process does not grow by it.
    """

    def __init__(self, engine: Engine, traffic: Traffic, kept: IO[bytes]):
        self.engine, self.traffic, self._kept = engine, traffic, kept
        self._draw = np.random.default_rng((traffic.seed, 2**31))
        self._live: dict[int, tuple[int, int]] = {}  # by id, number and sample
        self._doomed: list[int] = []  # ids that will be taken back
        self.tally = Tally()

    def run(self, first: int, count: int, shown: Callable[[int], None] = lambda done: None) -> None:
        """Serves requests `first`, ..., `first + count - 1` until all are completed."""
        start, before = time.perf_counter(), len(timing.compiled())
        arrived: collections.deque[int] = collections.deque()
        self.tally, left, rate = Tally(), first, self._draw.gamma(4.0) / 4
        while left < first + count or arrived or self.engine.pending:
            steps = int(self._draw.integers(0, 33))
            # By turns more and fewer than the slots can serve.
            if self._draw.random() < 0.1:
                rate = self._draw.gamma(4.0) / 4
            new = min(self._draw.poisson(rate * steps / 3), first + count - left)
            arrived.extend(range(left, left + new))
            left += new
            while arrived and self._submitted(arrived[0]):
                arrived.popleft()
            self._take_back()
            for done in self.engine.poll(steps):
                self._record(done)
            self.tally.memory.append(resident())
            shown(left - first)
        self.tally.compiled = timing.compiled()[before:]
        self.tally.seconds = time.perf_counter() - start

    def _submitted(self, number: int) -> bool:
        """Whether a request was taken in or refused; there may be no room for it."""
        fate, call, tally = self.traffic.fate(number), self.traffic.call(number), self.tally
        try:
            ids = self.engine.submit(call)
        except queue.Full:
            return False
        except ValueError:
            tally.calls += 1
            tally.refused += 1
            tally.wrongly += fate != "bad"
            return True
        tally.calls += 1
        tally.wrongly += fate == "bad"
        tally.given += len(ids)
        self._live.update({name: (number, sample) for sample, name in enumerate(ids)})
        if fate == "cancel":
            self._doomed += ids
        return True

    def _take_back(self) -> None:
        """Some of those that are to be, sooner or later, and some that nobody knows."""
        chosen = self._draw.random(len(self._doomed)) < 0.4
        gone = [name for name, now in zip(self._doomed, chosen, strict=True) if now]
        if gone:
            self._doomed = [name for name in self._doomed if name not in gone]
            self.engine.cancel([*gone, 2**30])

    def _record(self, done: Completed) -> None:
        number, sample = self._live.pop(done.id, (-1, done.id))
        self.tally.outcomes[done.status] += 1
        self.tally.times[number, sample] += 1
        held = (number, sample, done.status, done.tokens, done.log_probs, done.raw_log_probs)
        pickle.dump(held, self._kept)

    def row(self) -> Row:
        """What was counted, and whether everything came back once."""
        tally, engine = self.tally, self.engine
        back = tally.times
        quarters = tally.quarters()
        return {
            "requests": tally.calls,
            "refused": tally.refused,
            "wrongly_refused": tally.wrongly,
            "samples": tally.given,
            "outcomes": {s.name.lower(): tally.outcomes[s] for s in Status if tally.outcomes[s]},
            "lost": tally.given - sum(1 for number, _ in back if number >= 0),
            "duplicates": sum(back.values()) - len(back) + sum(1 for n, _ in back if n < 0),
            "compiled": len(tally.compiled),
            "programs": tally.compiled[:20],
            "memory_quarters": quarters,
            "memory_growth": quarters[3] / quarters[1] - 1,
            "occupancy": engine.occupancy,
            "loop_steps": engine.counts.get("steps", 0),
            "seconds": tally.seconds,
            "requests_per_second": tally.calls / tally.seconds,
        }


def kept(path: Path) -> Iterator[tuple[Any, ...]]:
    """What a soak wrote to a file."""
    with path.open("rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return


def mismatches(
    decoder: Decoder, params: Params, traffic: Traffic, path: Path, *, bits: bool
) -> tuple[int, list[str]]:
    """Compares what came back with the same requests decoded alone, in batches of one.

    A request that was taken back, or whose deadline passed, has the first tokens of what it has alone; all others have
    its tokens and its status.

    Args:
      decoder: of the engine.
      params: parameters by part name.
      traffic: that the requests came from.
      path: of the file that the soak wrote.
      bits: whether log-probabilities are compared too, bit for bit.

    Returns:
      How many were compared, and a line for each that differs.
    """
    compared, found = 0, []
    for number, sample, status, *own in kept(path):
        call = traffic.call(number)
        expected, *alone = solo(decoder, params, traffic, call, sample)
        size = len(own[0])
        whole = size == len(alone[0]) and status is expected
        parts = list(zip(own, alone, strict=True))[: None if bits else 1]
        same = all(np.array_equal(a, b[:size], equal_nan=True) for a, b in parts)
        if not (same and (whole or status in CUT)):
            found.append(f"request {number}, sample {sample}: {status.name}, {expected.name} alone")
        compared += 1
    return compared, found


def solo(
    decoder: Decoder, params: Params, traffic: Traffic, call: Call, sample: int
) -> tuple[Any, ...]:
    """A request as `generate` decodes it alone: its status, tokens, and log-probabilities, warped and raw."""
    prompt = np.zeros((1, traffic.max_prompt), np.int32)
    prompt[0, : len(call.prompt)] = call.prompt
    strings: dict[str, Any] = {}
    if call.stop_strings:
        strings = {"stop_strings": list(call.stop_strings), "tokenizer": traffic.tokenizer}
    result = jaxdec.generate(
        decoder,
        params,
        prompt,
        lengths=[len(call.prompt)],
        rng=row_keys(call.rng, call.samples, call.samples)[sample : sample + 1],
        max_new_tokens=call.max_new_tokens,
        most_new_tokens=traffic.max_new_tokens,
        eos=call.eos,
        stop=call.stop,
        **strings,
        **{**traffic.knobs, **call.knobs},
    )
    length = int(result.lengths[0])
    cut = lambda x: np.asarray(x)[0, :length]
    return result.status[0], *map(cut, (result.tokens, result.log_probs, result.raw_log_probs))


def resident() -> int:
    """Bytes of memory that this process has now; 0 where the system does not tell."""
    held = Path("/proc/self/statm")
    return int(held.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if held.is_file() else 0
