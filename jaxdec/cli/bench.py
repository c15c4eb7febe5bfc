"""Decodes prompts of a file with several methods in turns and compares them with plain decoding."""

import argparse
import functools
import io
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

import jaxdec
from jaxdec import catalogue, files, plotting
from jaxdec.catalogue import Method
from jaxdec.catalogue.assembly import assemble
from jaxdec.checkpoints import Checkpoint, HeadsCheckpoint
from jaxdec.cli import loading, options
from jaxdec.cli.arguments import FIELDS
from jaxdec.cli.display import figures, output
from jaxdec.decoding import Status
from jaxdec.measuring import machine, timing
from jaxdec.measuring.comparison import counts, decoding, identical, new_tokens
from jaxdec.measuring.timing import Timing, interleave, quartiles, ratios
from jaxdec.sampling import row_keys

BASELINE = "autoregressive"
SHOWN = 8  # depths in the table

COLUMNS = """\
tokens/forward  new tokens a forward of the target
proposed        drafts that the target scored in a forward
kept            accepted drafts of those
by depth        per cent of the drafts at depth 1, 2, ... that were accepted, given that those before were
x plain         seconds of plain decoding over seconds of the method, decoding loops only; median and quartiles
identical       tokens equal to those of plain decoding with the same key"""


def methods(names: str) -> list[Method]:
    """Different methods that continue prompts, by name; the baseline first.

    Args:
      names: separated by commas.

    Raises:
      ValueError: if there is no such method, or one is named twice.
    """
    found = {BASELINE: catalogue.METHODS[BASELINE]}
    for name in names.split(","):
        method = loading.continuing(name)
        if name in found and name != BASELINE:
            raise ValueError(f"the method {name!r} is named twice")
        found[name] = method
    return list(found.values())


def run(arguments: argparse.Namespace) -> None:
    """Decodes, times and prints.

    Raises:
      ValueError: for bad input.
      OSError: for files that cannot be read or written.
      FloatingPointError: if a law is not finite.
    """
    chosen = methods(arguments.methods)
    prompts = read_prompts(arguments.prompts)
    for path in (arguments.json, arguments.chart):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {path.absolute().parent} to write {path.name} to")
    figure = None if arguments.chart is None else _figure(arguments.chart, len(chosen))
    target = loading.load(arguments.target)
    load = functools.cache(functools.partial(loading.load_draft, target=target))
    drafts = {method.name: chosen_draft(method, arguments.draft, load) for method in chosen}
    if arguments.draft is not None and arguments.draft not in drafts.values():
        raise ValueError(
            f"none of the methods {', '.join(drafts)} drafts with a checkpoint of the kind of {arguments.draft!r}"
        )
    tokens, lengths = loading.encoded(loading.tokenizer(target), prompts, chat=False, bos=False)
    with _progress(len(chosen), arguments.repeats) as report:
        runs = [
            _timed(method, target, drafts[method.name], (tokens, lengths), load, arguments)
            for method in chosen
        ]
        timings = interleave(runs, repeats=arguments.repeats, report=report)
    result = {
        "machine": machine.facts(),
        "target": _about(target),
        "drafts": [_about(load(name)) for name in dict.fromkeys(drafts.values()) if name],
        "prompts": len(prompts),
        "prompt_tokens": int(lengths.sum()),
        **{
            name: getattr(arguments, name)
            for name in ("max_new_tokens", "temperature", "batch", "repeats", "seed")
        },
        **{name: getattr(arguments, name) for name in ("draft_length", "nodes")},
        "rows": [_row(method, drafts[method.name], timings) for method in chosen],
    }
    if arguments.json is not None:
        files.write_whole(arguments.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
    if figure is not None:
        _draw(figure, result["rows"])
        drawn = io.BytesIO()
        figure.savefig(drawn, format=_suffix(arguments.chart))
        files.write_whole(arguments.chart, drawn.getvalue())
    console = output()
    console.print(_title(result), soft_wrap=True)
    console.print(_table(result["rows"]))
    for line in COLUMNS.splitlines():
        console.print(Text(line, "dim"), soft_wrap=True)


def _timed(
    method: Method,
    target: Checkpoint,
    draft: str | None,
    prompts: tuple[np.ndarray, np.ndarray],
    load: Callable[[str], Checkpoint | HeadsCheckpoint],
    arguments: argparse.Namespace,
) -> timing.Method:
    """A method that decodes the prompts in groups, to be timed."""
    decoder, params = assemble(
        method,
        target,
        draft=draft,
        length=arguments.draft_length,
        nodes=arguments.nodes,
        load=load,
    )
    tokens, lengths = prompts
    settings: dict[str, Any] = dict(
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        eos=(),  # texts of equal length make fair timings
    )
    # All at once first: what is wrong with a prompt is said with its place in the file.
    jaxdec.prepare(decoder, params, tokens, lengths=lengths, **settings)
    groups = [slice(a, a + arguments.batch) for a in range(0, len(tokens), arguments.batch)]
    requests = [
        jaxdec.prepare(decoder, params, tokens[group], lengths=lengths[group], **settings)
        for group in groups
    ]
    keys = row_keys(jax.random.key(arguments.seed), len(tokens))
    return decoding(method.name, decoder, params, requests, [keys[group] for group in groups])


def read_prompts(name: str) -> list[bytes]:
    """The prompts of a file: of each line, or of its field if the first line is a JSON object; empty lines are skipped.

    Raises:
      ValueError: if there is none, or a line has none.
      OSError: if the file cannot be read.
    """
    lines = [(i, line) for i, line in enumerate(options.read(name).splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError(f"{name} holds no prompt; at least 1 is needed")
    if _object(lines[0][1]) is None:
        return [line for _, line in lines]
    found = []
    for number, line in lines:
        held = _object(line) or {}
        value = next((held[field] for field in FIELDS if held.get(field)), None)
        value = value[0] if isinstance(value, list) else value
        if not isinstance(value, str) or not value:
            raise ValueError(f"line {number} of {name} has no text in a field {', '.join(FIELDS)}")
        found.append(value.encode())
    return found


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line, if it is one."""
    try:
        held = files.from_json(line)
    except ValueError:
        return None
    return held if isinstance(held, dict) else None


def chosen_draft(
    method: Method, named: str | None, load: Callable[[str], Checkpoint | HeadsCheckpoint]
) -> str | None:
    """The checkpoint that drafts for a method: the named one if it is of the kind of the method's own."""
    own = method.draft
    if method.heads and named is not None:
        return named if getattr(load(named), "kind", None) == method.heads else None
    if not own or named is None:
        return own or None
    kinds = [
        (held.kind,)
        if isinstance(held, HeadsCheckpoint)
        else (held.model.causal, held.model.canvas)
        for held in (load(own), load(named))
    ]
    return named if kinds[0] == kinds[1] else own


def _about(checkpoint: Checkpoint | HeadsCheckpoint) -> dict[str, Any]:
    return {"name": checkpoint.name, "parameters": checkpoint.size}


class _progress:
    """A sign of life on stderr: a bar on a terminal, else a line for each method that is compiled.

    Gives a function to call with the name of a method before each of its runs, the first of which compiles.
    """

    def __init__(self, methods: int, repeats: int):
        self._console = figures()
        self._methods = methods
        self._calls = 0
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("loading", total=methods * (repeats + 1))

    def __enter__(self) -> Callable[[str], None]:
        self._bar.start()
        return self._report

    def _report(self, name: str) -> None:
        first = self._calls < self._methods
        doing = f"compiling {name}" if first else f"timing {name}"
        self._bar.update(self._task, completed=self._calls, description=doing)
        if first and not self._console.is_terminal:
            self._console.print(f"{doing} ({self._calls + 1} of {self._methods})")
        self._calls += 1

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()


def _row(method: Method, draft: str | None, timings: dict[str, Timing]) -> dict[str, Any]:
    """What there is to say of a method."""
    held, plain = timings[method.name], timings[BASELINE]
    if any(Status.NONFINITE in part.status for part in held.output):
        raise FloatingPointError(f"the model's law is not finite with method {method.name!r}")
    first, counted = held is plain, counts(held.output)
    parts = [jaxdec.acceptance_by_depth(part).sum(0) for part in held.output]
    accepted = np.zeros(max(map(len, parts)), int)
    for part in parts:
        accepted[: len(part)] += part
    ratio = ratios(plain, held)
    return {
        "method": method.name,
        "about": method.title,
        "exactness": method.exactness.value,
        "draft": draft,
        **counted,
        "accepted_by_depth": accepted.tolist(),
        "seconds": held.median,
        "seconds_quartiles": quartiles(held.seconds),
        "prefill_seconds": held.setup_median,
        "tokens_per_second": counted["tokens"] / held.median,
        "times_plain": 1.0 if first else statistics.median(ratio),
        "times_plain_quartiles": (1.0, 1.0) if first else quartiles(ratio),
        "identical": identical(new_tokens(held.output), new_tokens(plain.output)),
    }


def _title(result: dict[str, Any]) -> str:
    models = ", ".join(
        f"{role} {held['name']} ({held['parameters']:,} parameters)"
        for role, held in [
            ("target", result["target"]),
            *(("draft", draft) for draft in result["drafts"]),
        ]
    )
    return (
        f"{models}; device {result['machine']['device']}\n"
        f"{result['prompts']} prompts of {result['prompt_tokens']} tokens in all, {result['batch']} at once; "
        f"{result['max_new_tokens']} new tokens each, temperature {result['temperature']:g}; "
        f"{result['repeats']} runs in turns"
    )


def _table(rows: list[dict[str, Any]]) -> Table:
    """One row a method."""
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))  # fits 80 columns
    table.add_column("method\nexactness", no_wrap=True)
    for name in ("tokens/\nforward", "proposed", "kept", "by depth", "x plain", "identical"):
        depths = name == "by depth"
        table.add_column(name, justify="left" if depths else "right", no_wrap=not depths)
    for row in rows:
        accepted = row["accepted_by_depth"]
        pairs = zip(accepted[1 : SHOWN + 1], accepted, strict=False)
        low, high = row["times_plain_quartiles"]
        spread = f"\n{low:.2f}-{high:.2f}" if row["method"] != BASELINE else ""
        table.add_row(
            f"{row['method']}\n{row['exactness']}",
            f"{row['tokens_per_forward']:.2f}",
            f"{row['proposed'] / row['target_forwards']:.1f}",
            "" if row["acceptance"] is None else f"{row['acceptance']:.0%}",
            " ".join(f"{100 * kept / before:.0f}" for kept, before in pairs if before),
            f"{row['times_plain']:.2f}{spread}",
            f"{row['identical']:.1%}",
        )
    return table


def _figure(chart: Path, methods: int) -> Any:
    """An empty figure, made before the methods take their time.

    Raises:
      ValueError: if matplotlib is missing or cannot write such a file.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("a chart needs matplotlib: pip install matplotlib") from None
    height = plotting.bars_height(methods)
    figure = Figure(figsize=(7, height), layout="constrained")
    known = figure.canvas.get_supported_filetypes()
    if _suffix(chart) not in known:
        raise ValueError(f"--chart {chart} must end with one of .{', .'.join(sorted(known))}")
    return figure


def _suffix(chart: Path) -> str:
    return chart.suffix.lstrip(".").lower()


def _draw(figure: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Tokens a forward and speed of each method."""
    speed = "times plain decoding, by the clock"
    plotting.bars(
        {
            "tokens per target forward": {row["method"]: row["tokens_per_forward"] for row in rows},
            speed: {row["method"]: row["times_plain"] for row in rows},
        },
        spreads={speed: {row["method"]: row["times_plain_quartiles"] for row in rows}},
        ax=figure.subplots(),
    )
