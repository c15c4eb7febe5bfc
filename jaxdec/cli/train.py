"""Trains a shipped model from its preset, resumes a killed run, and exports a checkpoint with its card."""

import argparse
import dataclasses
import functools
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
from jaxdec.cli import loading
from jaxdec.cli.arguments import MODEL, RUN
from jaxdec.cli.display import output
from jaxdec.models import build_heads
from jaxdec.training import (
    corpus,
    export,
    export_fills,
    export_heads,
    export_joint,
    export_judge,
    export_tasks,
    run_folder,
)
from jaxdec.training.filling import FillTraining, train_filler
from jaxdec.training.heads import HeadTraining, train_heads
from jaxdec.training.joint import JointTraining, train_joint
from jaxdec.training.judging import JudgeTraining, train_judge
from jaxdec.training.presets import PRESETS, Preset
from jaxdec.training.scores import ScoreTraining, roll_outs_of, train_scores
from jaxdec.training.solving import TaskTraining, train_solver
from jaxdec.training.trainer import RunConfig, TrainConfig, build, train

Config = (
    TrainConfig
    | HeadTraining
    | JointTraining
    | TaskTraining
    | FillTraining
    | ScoreTraining
    | JudgeTraining
)


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
    learn, publish, teacher = _task(preset, config, arguments)
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
    console.print(f"{_quality(facts)}; checkpoint in {target}", soft_wrap=True)


def _source(config: Config, arguments: argparse.Namespace) -> tuple[Any, str]:
    """What the run learns from, and that in words."""
    if isinstance(config, TaskTraining | FillTraining | ScoreTraining):
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


def _task(preset: Preset, config: Config, arguments: argparse.Namespace):
    """What trains, as `(corpus, folder, report) -> (model, params)`, what exports, and the teacher's parameters."""
    if isinstance(config, TrainConfig):
        teacher = _teacher(preset, config, arguments)
        learn = lambda data, folder, report: train(
            config, data, folder, teacher=teacher, start=_start(config), report=report
        )
        return learn, functools.partial(export.export, config=config), teacher and teacher[1]
    if isinstance(config, TaskTraining | FillTraining):
        return _on_tasks(config, arguments)
    if arguments.teacher:
        raise ValueError(f"{arguments.name} learns from {config.target}, so it takes no --teacher")
    held = loading.load(config.target)
    target = held.model, held.params
    heads: Any = build_heads(config.kind, config.model, abstract=True)[0]
    if isinstance(config, ScoreTraining):
        score = lambda data, folder, report: train_scores(
            config, roll_outs_of(config, target), folder, report=report
        )
        publish = functools.partial(
            export_tasks.export_scores, config=config, head=heads, target=target
        )
        return score, publish, target[1]
    if isinstance(config, JudgeTraining):
        return _judging(config, target, heads)
    if isinstance(config, JointTraining):
        join = lambda data, folder, report: train_joint(config, data, folder, target, report=report)
        publish = functools.partial(
            export_joint.export_joint, config=config, network=heads, target=target
        )
        return join, publish, target[1]
    learn_heads = lambda data, folder, report: train_heads(
        config, data, folder, target, report=report
    )
    publish = functools.partial(
        export_heads.export_heads, config=config, heads=heads, target=target
    )
    return learn_heads, publish, target[1]


def _judging(config: JudgeTraining, target: tuple[Any, Any], head: Any):
    """`_task` for a judge of drafts."""
    drafter = loading.load(config.draft)
    draft = drafter.model, drafter.params
    learn = lambda data, folder, report: train_judge(
        config, data, folder, target, draft, report=report
    )
    publish = functools.partial(
        export_judge.export_judge, config=config, head=head, target=target, draft=draft
    )
    return learn, publish, {"target": target[1], "draft": draft[1]}


def _on_tasks(config: TaskTraining | FillTraining, arguments: argparse.Namespace):
    """`_task` for models that solve tasks."""
    if arguments.teacher:
        raise ValueError(f"{arguments.name} does not distil, so it takes no --teacher")
    model, _ = build(config.model)
    if isinstance(config, TaskTraining):
        solve = lambda data, folder, report: train_solver(config, folder, report=report)
        return (
            solve,
            functools.partial(export_tasks.export_solver, config=config, model=model),
            None,
        )
    filled = lambda data, folder, report: train_filler(config, folder, report=report)
    return filled, functools.partial(export_fills.export_filler, config=config, model=model), None


def _quality(facts: dict[str, Any]) -> str:
    """How good a trained model is, in one line."""
    if "judgement" in facts:
        found = facts["judgement"]
        return f"held-out area under the curve {found['auc']:.3f}"
    if "overlap" in facts:
        best = ", ".join(f"{ranks[0]:.3f}" for ranks in facts["agreement_by_rank"])
        return f"held-out agreement with the target by depth {best}"
    if "distances" in facts:
        best = ", ".join(f"{own:.3f} ({stale:.3f})" for own, stale in facts["distances"])
        return f"held-out distance from a forward's laws by step (without the network) {best}"
    if "accuracy" in facts:
        best = ", ".join(f"{name} {found['each']:.3f}" for name, found in facts["accuracy"].items())
        return f"held-out accuracy of one sample: {best}"
    if "solved" in facts:
        best = ", ".join(f"{name} {share:.3f}" for name, share in facts["solved"]["0"].items())
        return f"held-out problems solved one token a forward: {best}"
    if "discrimination" in facts:
        best = ", ".join(f"{name} {x['auc']:.3f}" for name, x in facts["discrimination"].items())
        return f"held-out area under the curve: {best}"
    return (
        f"held-out bits per byte {facts['held_out_bits_per_byte']:.3f} "
        f"(gzip -9 {facts['gzip_bits_per_byte']:.3f}, xz -9e {facts['xz_bits_per_byte']:.3f})"
    )


def configure(config: Config, arguments: argparse.Namespace) -> Config:
    """The preset's configuration with what was given on the command line."""

    def given(names):
        return {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}

    changes = given((*RUN, "seed"))
    if "batch" in changes and "rows_at_once" not in changes:
        changes["rows_at_once"] = math.gcd(config.rows_at_once, changes["batch"])
    sizes = given(MODEL)
    if isinstance(config, HeadTraining | JointTraining | ScoreTraining | JudgeTraining) and sizes:
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


def _teacher(preset: Preset, config: TrainConfig, arguments: argparse.Namespace):
    name = arguments.teacher or preset.teacher
    if not config.distill:
        if arguments.teacher:
            raise ValueError(f"{arguments.name} does not distil, so it takes no --teacher")
        return None
    if name is None:
        raise ValueError(f"{arguments.name} distils and has no teacher of its own: give --teacher")
    checkpoint = loading.load(name)
    return checkpoint.model, checkpoint.params


def _start(config: TrainConfig):
    return None if config.start is None else loading.load(config.start).params


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
