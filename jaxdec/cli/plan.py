"""Plans a decode on TPUs that need not be there: what it holds, moves and takes, and whether to speculate."""

import argparse
import io
import json
import re
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from jaxdec import catalogue, files, plotting
from jaxdec.cli.display import figures, output, waiting
from jaxdec.planning import Task, Topology, plan
from jaxdec.planning.models import sized

AXES = (("data", "data"), ("sequence", "sequence"), ("model", "model_axis"))
"""Axes of a mesh, and the fields of a task that hold their sizes."""
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def run(arguments: argparse.Namespace) -> None:
    """Compiles, counts and prints.

    Raises:
      ValueError: for bad input.
      OSError: for files that cannot be written.
    """
    topology = Topology.parse(arguments.topology)
    sizes = {"data": topology.chips} if arguments.placement is None else arguments.placement
    task = Task(
        arguments.model,
        topology.name,
        data=sizes.get("data", 1),
        model_axis=sizes.get("model", 1),
        sequence=sizes.get("sequence", 1),
        **{
            name: getattr(arguments, name)
            for name in (
                "method",
                "draft",
                "nodes",
                "length",
                "batch",
                "context",
                "block",
                "refresh",
                "dtype",
            )
        },
    )
    if arguments.refresh not in (None, *catalogue.REFRESH_RULES):
        raise ValueError(
            f"--refresh must be one of {', '.join(catalogue.REFRESH_RULES)}, got {arguments.refresh!r}"
        )
    for path in (arguments.json, arguments.plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {path.absolute().parent} to write {path.name} to")
    figure = None if arguments.plot is None else _figure(arguments.plot)
    task.check()
    depths = _layers(arguments.layers, task)
    terminal = figures().is_terminal
    with waiting("compiling") as say:

        def report(what: str) -> None:
            say(f"compiling {what}")
            if not terminal:
                figures().print(f"compiling {what}")

        found = plan(task, layers=depths, report=report)
    if arguments.json is not None:
        files.write_whole(arguments.json, json.dumps(found, indent=1, allow_nan=False) + "\n")
    if figure is not None and found["verification"] is not None:
        _draw(figure, found)
        drawn = io.BytesIO()
        figure.savefig(drawn, format=arguments.plot.suffix.lstrip(".").lower())
        files.write_whole(arguments.plot, drawn.getvalue())
    show(found)


def _layers(text: str | None, task: Task) -> tuple[int, ...] | None:
    """The layers of the programs that are compiled."""
    if text is None:
        return None
    if text == "all":
        return (sized(task.model).config.layers,)
    if not re.fullmatch(r"[1-9]\d*,[1-9]\d*", text) or len(set(text.split(","))) < 2:
        raise ValueError(f"--layers must be two numbers such as 2,4, or all; got {text!r}")
    first, second = map(int, text.split(","))
    return first, second


def show(found: dict[str, Any]) -> None:
    """Prints a plan."""
    console = output()
    task, layers, step = found["task"], found["layers"], found["step"]
    mesh = " x ".join(f"{axis} {task[name]}" for axis, name in AXES)
    console.print(
        f"{task['model']}, {task['method']}, on {task['topology']} as {mesh}: "
        f"{task['batch']} rows of {task['context']} tokens, {task['dtype']}",
        soft_wrap=True,
    )
    if layers["compiled"] != [layers["whole"]]:
        compiled = " and ".join(map(str, layers["compiled"]))
        console.print(
            f"counted in programs of {compiled} layers, continued to {layers['whole']}",
            soft_wrap=True,
        )
    table = Table("a chip", "", box=box.SIMPLE)
    table.columns[1].justify = "right"
    for row in [*_memory(found["memory"]), *_step(step, found["chip"]["name"])]:
        table.add_row(*row)
    console.print(table)
    if step is not None and step["collectives"]:
        groups = Table("in a step", "times", "bytes", box=box.SIMPLE)
        for name, group in step["collectives"].items():
            groups.add_row(name, f"{group['times']:.0f}", short(group["bytes"]))
        console.print(groups)
    if found["verification"] is not None:
        costs = Table("tokens a forward", "times the cost of one", box=box.SIMPLE)
        for row in found["verification"]:
            costs.add_row(f"{row['tokens']}", f"{row['times_one']:.2f}")
        console.print(costs)
    if not found["memory"]["fits"]:
        console.print(too_large(found["memory"]), soft_wrap=True)
    if found["speculation"] is not None:
        console.print(found["speculation"]["words"], soft_wrap=True)


def too_large(memory: dict[str, Any]) -> str:
    """What does not fit, by how much, and what would."""
    parts = ("params", "cache", "temporaries", "code_and_state")
    held = ", ".join(f"{_named(part)} {short(memory[part])}B" for part in parts)
    more = memory["needed"] - memory["available"]
    rows, tokens, smallest = memory["most_rows"], memory["most_context"], memory["smallest"]
    room = f"there is room for {rows} rows of this context" if rows else "no row has room"
    room += f", or for {tokens} tokens a row" if tokens else ""
    where = "no slice of these chips holds it"
    if smallest is not None:
        where = (
            f"the smallest slice that holds it is {smallest['topology']} as data {smallest['data']} x model "
            f"{smallest['model']}, with {short(smallest['needed'])}B a chip"
        )
    return (
        f"Does not fit: {held} are {short(memory['needed'])}B, {short(more)}B more than a chip gives a program; "
        f"{room}; {where}."
    )


def _named(part: str) -> str:
    return part.replace("_", " ")


def _memory(memory: dict[str, Any]) -> list[tuple[str, str]]:
    names = ("params", "cache", "temporaries", "code_and_state")
    rows = [(_named(name), short(memory[name]) + "B") for name in names]
    share = memory["needed"] / memory["available"]
    return [*rows, (f"of {short(memory['available'])}B", f"{share:.0%}")]


def _step(step: dict[str, Any] | None, chip: str) -> list[tuple[str, str]]:
    if step is None:
        return [("a step", "of no program: the compiler refused it")]
    return [
        ("bytes a step", short(step["bytes"]) + "B"),
        ("times the least possible", f"{step['times_least']:.2f}"),
        ("flops a step", short(step["flops"])),
        ("sent a step", short(step["sent"]) + "B"),
        (f"a step on {chip} takes at least", f"{1e3 * step['seconds']:.3f} ms"),
    ]


def short(value: float) -> str:
    """A number with a letter for its thousands: `1.23 G`."""
    for unit, letter in _UNITS:
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.3g} "


def _figure(path: Path) -> Any:
    """An empty figure, made before the compiler takes its time; raises `ValueError` if it could not be written."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("a plot needs matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(6, 4), layout="constrained")
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise ValueError(f"--plot {path} must end with one of .{', .'.join(sorted(known))}")
    return figure


def _draw(figure: Any, found: dict[str, Any]) -> None:
    task, speculation = found["task"], found["speculation"]
    plotting.verification_cost(
        [(row["tokens"], row["times_one"]) for row in found["verification"]],
        step=None
        if found["tokens_a_forward"] == 1 or speculation is None
        else (found["tokens_a_forward"], speculation["break_even"]),
        title=f"{task['model']} on {task['topology']}, {task['batch']} rows of {task['context']}",
        ax=figure.subplots(),
    )
