"""Requests from an iterable through an engine, with a journal or without one."""

import itertools
import queue
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdec.decoding import Status, integers
from jaxdec.generation.requests.call import Call
from jaxdec.generation.requests.completed import Completed, Refused
from jaxdec.generation.requests.journal import Journal

if TYPE_CHECKING:
    from jaxdec.generation.requests.engine import Engine

_END: Any = object()


def serve(
    engine: "Engine",
    calls: Iterable[Call],
    *,
    steps: int,
    journal: str | Path | None,
    every: int,
    replay: bool,
    skip: bool,
) -> Iterator[Completed | Refused]:
    """See `Engine.serve`."""
    every = int(integers("every", every, [()], low=1))
    if journal is None:
        yield from _served(_Unwritten(engine), calls, steps)
        return
    book = Journal(journal)
    with book.writing(engine):
        writer = _Written(engine, book, every, skip)
        writer.resume()
        if replay:
            yield from book.results()
        yield from _served(writer, calls, steps)


def _served(
    writer: "_Unwritten", calls: Iterable[Call], steps: int
) -> Iterator[Completed | Refused]:
    source, more = writer.source(calls), True
    held: Call | Refused | None = None
    while more or held is not None or writer.engine.pending:
        while more or held is not None:
            if held is None:
                held = next(source, _END)
                if held is _END:
                    more, held = False, None
                    break
            if not isinstance(held, Refused):
                try:
                    writer.submit(held)
                except queue.Full:
                    break
                except ValueError as error:
                    held = writer.refuse(held, str(error))
            if isinstance(held, Refused):
                yield held
            held = None
        if writer.engine.pending:
            yield from writer.poll(steps)


class _Unwritten:
    """Requests on their way to an engine and back."""

    def __init__(self, engine: "Engine"):
        self.engine = engine

    def source(self, calls: Iterable[Call]) -> Iterator[Any]:
        """Requests, one by one; those that are refused already as such."""
        return iter(calls)

    def submit(self, call: Call) -> None:
        """See `Engine.submit`."""
        self.engine.submit(call)

    def refuse(self, call: Call, reason: str) -> Refused:
        """What comes back of a request that cannot be served."""
        return Refused(call, reason)

    def poll(self, steps: int) -> list[Completed]:
        """See `Engine.poll`."""
        return self.engine.poll(steps)


class _Written(_Unwritten):
    """The same with a journal: each request is written before it runs, and each result before it is given away."""

    def __init__(self, engine: "Engine", journal: Journal, every: int, skip: bool):
        super().__init__(engine)
        self.journal, self.every, self.skip = journal, every, skip
        self.asked, self.polls = 0, 0

    def resume(self) -> None:
        """Brings the engine to where it was saved last, if something is left to do."""
        engine, journal = self.engine, self.journal
        if engine.pending:
            raise ValueError(
                f"{engine.pending} requests of the engine are not completed; a journal needs one that has none"
            )
        engine._next = journal.first if journal.calls else journal.next
        for path in journal.states() if journal.calls else []:
            try:
                engine.load(path)
                break
            except ValueError:  # damaged, or of other sizes: what it held is asked for again
                continue
        self._drop(engine._live)

    def source(self, calls: Iterable[Call]) -> Iterator[Any]:
        """Those that the saved engine did not have yet, with their old ids, and then those of the iterable."""
        engine, journal = self.engine, self.journal
        for name, call in list(journal.calls.items()):
            if name >= engine._next:
                engine._next = self.asked = name
                yield call
        engine._next = journal.next
        for call in itertools.islice(calls, journal.taken if self.skip else 0, None):
            self.asked = engine._next
            try:
                journal.ask(self.asked, call)
            except ValueError as error:
                journal.refuse(None, str(error))
                yield Refused(call, str(error))
            else:
                yield call

    def submit(self, call: Call) -> None:
        """Submits a request under the id that was written."""
        if self.engine._next != self.asked:
            raise RuntimeError(
                f"request {self.asked} was submitted beside the journal {self.journal.folder}"
            )
        self._drop(self.engine.submit(call))

    def refuse(self, call: Call, reason: str) -> Refused:
        """Writes that a request cannot be served."""
        self.journal.refuse(self.asked, reason)
        return super().refuse(call, reason)

    def poll(self, steps: int) -> list[Completed]:
        """Runs the engine, and writes what ended; from time to time, the engine."""
        self.journal.drop(self.engine._dropped)
        self.journal.sync()
        found = self.journal.end(super().poll(steps))
        self.polls += 1
        if self.polls % self.every == 0 and self.engine.pending:
            self.journal.save(self.engine)
        return found

    def _drop(self, names: Iterable[int]) -> None:
        """Takes back what was taken back before, and what has come back already."""
        again = {name: self.journal.dropped.get(name) for name in names}
        for name, status in again.items():
            if name in self.journal.done:
                self.engine.cancel(name)
            elif status is not None:
                self.engine.cancel(name, Status(status))
