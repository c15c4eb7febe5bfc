"""What `jaxdec train` shows of a run, and how long it took over all its processes."""

import json
import math
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from jaxdec import files
from jaxdec.training.trainer import RunConfig


class Clock:
    """Seconds of training over all processes of a run, kept beside it."""

    def __init__(self, path: Path):
        self._path = path
        self._before = json.loads(path.read_text())["seconds"] if path.exists() else None
        self.seconds: float | None = self._before

    def set(self, seconds: float) -> None:
        """Sets the seconds of this process."""
        self.seconds = round((self._before or 0.0) + seconds, 1)
        files.write_whole(self._path, json.dumps({"seconds": self.seconds}))


class Bar:
    """A progress bar on a terminal, and a line now and then elsewhere."""

    def __init__(self, console: Console, config: RunConfig):
        self._console, self._config = console, config
        self._first: int | None = None
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]} bits, {task.fields[speed]} steps/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=300,
            disable=not console.is_terminal,
        )

    def __enter__(self):
        self._progress.start()
        self._task = self._progress.add_task("", total=self._config.steps, loss="-", speed="-")
        return self

    def __exit__(self, *_):
        self._progress.stop()

    def show(self, step: int, loss: float) -> None:
        """Takes the loss of a step, in nats."""
        if self._first is None:
            self._first = step
            if step > 1:
                self._console.print(f"resumed after step {step - 1}")
            self._progress.reset(self._task, completed=step, total=self._config.steps)
        elapsed = self._progress.tasks[0].elapsed or 0.0
        done = step - self._first
        speed = f"{done / elapsed:.2f}" if done and elapsed else "-"
        self._progress.update(
            self._task, completed=step, loss=f"{loss / math.log(2):.3f}", speed=speed
        )
        if not self._console.is_terminal and (step % 50 == 0 or step == self._config.steps):
            self._console.print(
                f"step {step}/{self._config.steps}, loss {loss / math.log(2):.3f} bits"
            )
