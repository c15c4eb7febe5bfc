"""Trains a shipped model from its preset, resumes a killed run, and exports a checkpoint with its card."""

import argparse
import dataclasses
import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from jaxdec.cli.arguments import MODEL, RUN
from jaxdec.cli.display import output
from jaxdec.cli.train_kinds import OnCanvases, quality, task
from jaxdec.training import (
    corpus,
    export,
    run_folder,
)
from jaxdec.training.filling import FillTraining
from jaxdec.training.heads import HeadTraining
from jaxdec.training.joint import JointTraining
from jaxdec.training.judging import JudgeTraining
from jaxdec.training.presets import PRESETS, Config
from jaxdec.training.scores import ScoreTraining
from jaxdec.training.solving import TaskTraining
from jaxdec.training.trainer import RunConfig


def run(arguments: argparse.Namespace) -> None:
    """Trains and exports.

    Raises:
      ValueError: for bad input.
      FloatingPointError: if the loss is not finite.
    """
    console = output()
    if arguments.name not in PRESETS:
        raise ValueError(f"there is no preset {arguments.name!r}, only {', '.join(PRESETS)}")
    preset = PRESETS[arguments.name]
    config = configure(preset.config, arguments)
    folder = arguments.folder or Path("runs") / arguments.name
    target = arguments.export or folder / "export"
    data, described = _source(config, arguments)
    learn, publish, teacher = task(preset, config, arguments)
    extended_from = run_folder.extended_from(folder, config.steps)
    runs = export.identities(config, data, teacher, extended_from)
    export.check_free(target, runs)
    console.print(f"{arguments.name}: {described}")
    clock = _Clock(folder / "seconds.json")
    with _Bar(console, config) as bar:

        def report(step: int, loss: float, seconds: float) -> None:
            clock.set(seconds)
            bar.show(step, loss)

        _, params = learn(data, folder, report=report)
    if export.holds(target) == runs[-1]:
        console.print(f"{target} holds this run's checkpoint already", soft_wrap=True)
        return
    console.print("scoring what is held out ...")
    facts = publish(
        target,
        arguments.name,
        data=data,
        params=params,
        known=export.Origin(
            about=preset.about,
            runs=runs,
            extended_from=extended_from,
            command=command(arguments, extended_from),
            seconds=clock.seconds,
        ),
    )
    console.print(f"{quality(facts)}; checkpoint in {target}", soft_wrap=True)


def _source(config: Config, arguments: argparse.Namespace) -> tuple[Any, str]:
    """What the run learns from, and that in words."""
    if isinstance(config, TaskTraining | FillTraining | ScoreTraining | OnCanvases):
        if arguments.corpus or arguments.packages:
            raise ValueError(f"{arguments.name} learns from tasks: no --corpus and no --packages")
        names = ", ".join(task.name for task in config.mixture.tasks)
        return config.mixture, f"{names}, tasks {config.mixture.fingerprint()}"
    if arguments.corpus and arguments.packages:
        raise ValueError("--corpus and --packages exclude each other")
    if arguments.corpus:
        data = corpus.folder_sources(arguments.corpus)
    else:
        data = corpus.python_sources(packages=arguments.packages)
    if not data.held_out or len(data.train_stream()) <= config.length:
        raise ValueError(
            f"the corpus has {len(data.train)} files to learn from and {len(data.held_out)} held out; "
            f"it needs a window of {config.length + 1} tokens to learn from and 1 file held out"
        )
    size = sum(len(source.content) for source in data.train)
    return data, f"{len(data.train)} files, {size:,} bytes, corpus {data.fingerprint()}"


def configure(config: Config, arguments: argparse.Namespace) -> Config:
    """The preset's configuration with what was given on the command line."""

    def given(names):
        return {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}

    changes = given((*RUN, "seed"))
    if "batch" in changes and "rows_at_once" not in changes:
        changes["rows_at_once"] = math.gcd(config.rows_at_once, changes["batch"])
    sizes = given(MODEL)
    of_targets = HeadTraining | JointTraining | ScoreTraining | JudgeTraining | OnCanvases
    if isinstance(config, of_targets) and sizes:
        name = next(iter(sizes)).replace("_", "-")
        raise ValueError(f"the sizes of {arguments.name} follow from its target: no --{name}")
    model: Any = dataclasses.replace(config.model, **sizes)
    return dataclasses.replace(config, model=model, **changes)


def command(arguments: argparse.Namespace, extended_from: Sequence[int] = ()) -> str:
    """The line that repeats the run, without the folders of this machine.

    Args:
      arguments: of the command.
      extended_from: the steps that the run was given before.
    """
    lines = []
    for steps in (*extended_from, arguments.steps):
        words = ["jaxdec", "train", arguments.name]
        for name in (*RUN, *MODEL, "seed", "teacher"):
            value = steps if name == "steps" else getattr(arguments, name)
            if value is not None:
                value = Path(value).name if name == "teacher" else value
                words += [f"--{name.replace('_', '-')}", str(value)]
        words += ["--packages"] if arguments.packages else []
        words += ["--corpus", arguments.corpus.name] if arguments.corpus else []
        lines.append(shlex.join(words))
    return " && ".join(lines)


class _Clock:
    """Seconds of training over all processes of a run, kept beside it."""

    def __init__(self, path: Path):
        self._path = path
        self._before = json.loads(path.read_text())["seconds"] if path.exists() else None
        self.seconds: float | None = self._before

    def set(self, seconds: float) -> None:
        """Sets the seconds of this process."""
        self.seconds = round((self._before or 0.0) + seconds, 1)
        files.write_whole(self._path, json.dumps({"seconds": self.seconds}))


class _Bar:
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
