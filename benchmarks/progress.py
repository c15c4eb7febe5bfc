"""Signs of life on stderr: a bar on a terminal, elsewhere a line for each thing that begins."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

T = TypeVar("T")


class Steps:
    """A number of things that are done one after another."""

    def __init__(self, total: int):
        shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Progress(
            *shown, TimeElapsedColumn(), console=Console(stderr=True), transient=True
        )
        self._task = self.bar.add_task("", total=total)
        self._total, self._begun = total, 0

    def begin(self, what: str) -> None:
        """The next thing begins; the one before it is done."""
        if not self.bar.console.is_terminal:
            print(f"[{self._begun + 1}/{self._total}] {what}", file=sys.stderr, flush=True)
        self.bar.update(self._task, description=what, completed=self._begun)
        self._begun += 1


@contextmanager
def steps(total: int) -> Iterator[Steps]:
    """Shows how far so many things have come."""
    held = Steps(total)
    if not held.bar.console.is_terminal:
        yield held
        return
    with held.bar:
        yield held


def each(items: Sequence[T], name=str) -> Iterator[T]:
    """The items one by one, shown as they begin."""
    with steps(len(items)) as shown:
        for item in items:
            shown.begin(name(item))
            yield item
