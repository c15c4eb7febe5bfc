"""What was asked of an engine and what came back, line by line, so that a killed process can go on.

    <folder>/journal.jsonl    one line each: eight digits of a checksum, and JSON
    <folder>/state-<n>/       the engine as it was saved last (`saving`)

A line is written before what it says is relied upon: requests before they run, results before they are given away. The
last one may be torn, and is dropped then.

    {"journal": 1, "first": id, "decodes": ...}    what the engine is; the first line
    {"asked": id, "call": ...}                     a request was taken, and `id` is that of its first sample
    {"refused": id, "reason": ...}                 it cannot be served; `null` for one that could not be stored
    {"dropped": id, "status": ...}                 a request was taken back
    {"ended": id, "of": id, "result": ...}         a request is completed, a sample of that of the second id
"""

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from jaxdec.decoding import Status
from jaxdec.generation.requests import identity
from jaxdec.generation.requests.call import Call
from jaxdec.generation.requests.completed import Completed, Refused
from jaxdec.generation.requests.written import (
    call_from_json,
    call_to_json,
    completed_from_json,
    completed_to_json,
)

if TYPE_CHECKING:
    from jaxdec.generation.requests.engine import Engine

_VERSION = 1


class Journal:
    """The journal of a folder as it stands; `Engine.serve` writes it.

    Args:
      folder: need not exist.

    Attributes:
      taken: requests that were taken from the iterable, those included that were refused.
      first: the id of the first.
      next: the id that the next one will have.
      calls: requests of which a sample is not completed, by the id of the first.
      done: ids that are completed.
      dropped: ids that were taken back, with the status that they end with.

    Raises:
      ValueError: if a line other than the last is damaged.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._path = self.folder / "journal.jsonl"
        self._file: IO[bytes] | None = None
        self._unsynced = False
        self.decodes: dict[str, Any] | None
        self._scan()

    def results(self) -> Iterator[Completed | Refused]:
        """All that came back so far, in its order, as the disk has it now."""
        calls: dict[int, Call] = {}
        for _, line in self._lines():
            if "asked" in line:
                calls[line["asked"]] = call_from_json(line["call"])
            elif "refused" in line:
                yield Refused(calls.pop(line["refused"], None), line["reason"])
            elif "ended" in line:
                yield completed_from_json(line["result"], calls[line["of"]])

    @contextlib.contextmanager
    def writing(self, engine: "Engine") -> Iterator[None]:
        """Lets requests of an engine be written, by one process at a time.

        Raises:
          ValueError: if another one writes, or if the journal is of an engine that decodes otherwise.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            _lock(file, self.folder)
            self._scan()
            file.truncate(self._size)  # a torn line
            self._file = file
            try:
                self._begin(engine)
                yield
            finally:
                self._file = None

    def ask(self, name: int, call: Call) -> None:
        """Writes that a request was taken, whose first sample has this id; it may run after the next `sync`.

        Raises:
          ValueError: if it cannot be stored.
        """
        self._write([{"asked": name, "call": call_to_json(call)}], sync=False)
        self._asked(name, call)

    def refuse(self, name: int | None, reason: str) -> None:
        """Writes that a request cannot be served: its id, None for one that was not written."""
        self._write([{"refused": name, "reason": reason}])
        self._refused(name)

    def drop(self, dropped: dict[int, Status]) -> None:
        """Writes that requests were taken back."""
        own = {
            name: status
            for name, status in dropped.items()
            if name not in self.dropped and name not in self.done
        }
        self._write({"dropped": name, "status": int(status)} for name, status in own.items())
        self.dropped |= own

    def end(self, found: list[Completed]) -> list[Completed]:
        """Writes what came back; returns what had not come back before.

        Raises:
          RuntimeError: for a request that the journal does not have.
        """
        new = [each for each in found if each.id not in self.done]
        for each in new:
            if each.id - each.sample not in self.calls:
                raise RuntimeError(
                    f"request {each.id} is not in the journal {self.folder}: an engine that serves with a journal "
                    "takes requests from it alone"
                )
        self._write(
            {"ended": each.id, "of": each.id - each.sample, "result": completed_to_json(each)}
            for each in new
        )
        for each in new:
            self._ended(each.id, each.id - each.sample)
        return new

    def states(self) -> list[Path]:
        """The folders of saved engines that there are, the last first."""
        return sorted(self.folder.glob("state-*"), reverse=True)

    def save(self, engine: "Engine") -> None:
        """Saves the engine, and removes what was saved before."""
        old = self.states()
        number = int(old[0].name.split("-")[1]) + 1 if old else 0
        engine.save(self.folder / f"state-{number:09d}")
        for path in old:
            shutil.rmtree(path)

    def _begin(self, engine: "Engine") -> None:
        if self.decodes is None:
            self.decodes, self.first, self.next = engine.identity, engine._next, engine._next
            self._write([{"journal": _VERSION, "first": self.first, "decodes": self.decodes}])
            _sync_folder(self.folder)
        found = identity.difference(self.decodes, engine.identity)
        if found:
            raise ValueError(f"the journal {self.folder} is of another engine: {found}")

    def sync(self) -> None:
        """Sees to it that what was written is on the disk; before, it outlives the process, but not the machine."""
        if self._file is not None and self._unsynced:
            os.fsync(self._file.fileno())
            self._unsynced = False

    def _write(self, lines: Iterable[dict[str, Any]], sync: bool = True) -> None:
        content = b"".join(_framed(json.dumps(line).encode()) for line in lines)
        if not content:
            return
        if self._file is None:
            raise ValueError(f"the journal {self.folder} is not open for writing")
        self._file.write(content)
        self._file.flush()
        self._unsynced = True
        if sync:
            self.sync()

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Whole lines, each with the byte at which it ends."""
        if not self._path.exists():
            return
        end, torn = 0, 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if torn:
                    raise ValueError(f"line {torn} of {self._path} is damaged")
                end += len(line)
                if line == _framed(line[9:-1]):
                    yield end, json.loads(line[9:])
                else:
                    torn = number

    def _scan(self) -> None:
        self.decodes = None
        self.taken, self.first, self.next = 0, 0, 0
        self.calls: dict[int, Call] = {}
        self.done: set[int] = set()
        self.dropped: dict[int, Status] = {}
        self._left: dict[int, int] = {}  # samples that are not completed
        self._size = 0  # bytes of whole lines
        for end, line in self._lines():
            self._size = end
            if "journal" in line:
                if line["journal"] != _VERSION:
                    raise ValueError(
                        f"{self._path} is of version {line['journal']!r}; this is version {_VERSION}"
                    )
                self.decodes, self.first, self.next = line["decodes"], line["first"], line["first"]
            elif "asked" in line:
                self._asked(line["asked"], call_from_json(line["call"]))
            elif "refused" in line:
                self._refused(line["refused"])
            elif "dropped" in line:
                self.dropped[line["dropped"]] = Status(line["status"])
            elif "ended" in line:
                self._ended(line["ended"], line["of"])

    def _asked(self, name: int, call: Call) -> None:
        # What is no number of samples is refused in the next line.
        samples = call.samples if isinstance(call.samples, int | np.integer) else 1
        self.calls[name], self._left[name] = call, samples
        self.next = name + samples
        self.taken += 1

    def _refused(self, name: int | None) -> None:
        if name is None:
            self.taken += 1
            return
        del self.calls[name]
        if name + self._left.pop(name) == self.next:
            self.next = name

    def _ended(self, name: int, of: int) -> None:
        self.done.add(name)
        self._left[of] -= 1
        if not self._left[of]:
            del self.calls[of], self._left[of]


def _framed(content: bytes) -> bytes:
    """A line: a checksum and what it is of."""
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _lock(file: IO[bytes], folder: Path) -> None:
    """Keeps other processes from writing, until the file is closed or the process ends."""
    try:
        import fcntl
    except ImportError:  # not on this system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"the journal {folder} is being written by another engine") from None


def _sync_folder(folder: Path) -> None:
    """Sees to it that a new file of a folder is found there after a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
