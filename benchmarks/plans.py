"""Plans of large models on TPUs that need not be there: `python -m benchmarks.plans`.

Compiles those of `PLANS` that are named (all if none is), writes each to `benchmarks/results/plans/`, and the table of
all that stand there to `docs/plan.md`. `--table` writes the table alone.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from jaxdec import files
from jaxdec.planning import Task, plan

FOLDER = ROOT / "benchmarks" / "results" / "plans"
PAGE = ROOT / "docs" / "plan.md"
BEGIN, END = "<!-- plans -->\n", "<!-- end of plans -->\n"
CHIPS: dict[str, dict[str, dict[str, int]]] = {
    "llama-70b": {
        "v5e:1x1": {},
        "v5e:4x4": {"data": 2, "model_axis": 8},
        "v6e:2x4": {"model_axis": 8},
    },
    "llada-8b": {
        "v5e:1x1": {},
        "v5e:4x4": {"data": 4, "model_axis": 4},
        "v6e:2x4": {"data": 2, "model_axis": 4},
    },
    "qwen3-0.6b": {"v5e:1x1": {}, "v5e:4x4": {"data": 16}, "v6e:2x4": {"data": 8}},
}
DECODES: dict[str, dict[str, Any]] = {
    "llama-70b": {"method": "eagle", "nodes": 32, "length": 5, "batch": 16, "context": 8192},
    "llada-8b": {"method": "threshold", "block": 32, "batch": 16, "context": 4096},
    "qwen3-0.6b": {"method": "lookup-tree", "nodes": 16, "batch": 16, "context": 4096},
}
PLANS = {
    f"{model}_{chips.replace(':', '-')}": Task(model, chips, **DECODES[model], **sizes)
    for model, places in CHIPS.items()
    for chips, sizes in places.items()
}


def table() -> str:
    """The plans that were made, in Markdown."""
    lines = [
        "| model, method | chips | data x model | rows x context | held a chip | fits | bytes a step | x least "
        "| step at least, ms | 8, 32, 64 tokens cost | break-even |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(FOLDER.glob("*.json")):
        held = json.loads(path.read_text())
        task, memory = held["task"], held["memory"]
        cells = [
            f"{task['model']}, {task['method']}",
            task["topology"],
            f"{task['data']} x {task['model_axis']}",
            f"{task['batch']} x {task['context']}",
            f"{memory['needed'] / 2**30:.1f} GiB",
            _fits(memory),
            *_figures(held),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _fits(memory: dict[str, Any]) -> str:
    """Whether it does, and if not where it would."""
    if memory["fits"]:
        return "yes"
    smallest = memory.get("smallest")
    if smallest is None:
        return "no"
    return f"no; {smallest['topology']} as {smallest['data']} x {smallest['model']} would"


def _figures(held: dict[str, Any]) -> list[str]:
    """Of a step and of forwards; dashes for those of programs that the compiler refused."""
    step, costs, words = held["step"], held["verification"], held["speculation"]
    of_step = ["-"] * 3
    if step is not None:
        milliseconds = 1e3 * step["seconds"]
        of_step = [
            f"{step['bytes'] / 1e9:.2f} GB",
            f"{step['times_least']:.2f}",
            f"{milliseconds:.2f}",
        ]
    shown = [f"{row['times_one']:.2f}" for row in costs or () if row["tokens"] in (8, 32, 64)]
    break_even = "-" if words is None else f"{words['break_even']:.2f}"
    return [*of_step, ", ".join(shown) or "-", break_even]


def page(text: str, rows: str) -> str:
    """The page with the table of plans in its place."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + rows + "\n" + END + rest.partition(END)[2]


def main(names: list[str]) -> None:
    unknown = sorted({*names} - {*PLANS, "--table"})
    if unknown:
        raise SystemExit(f"there is no plan {unknown[0]!r}, only {', '.join(PLANS)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in [] if "--table" in names else names or list(PLANS):
        say = lambda what, name=name: print(
            f"{name}: compiling {what}", file=sys.stderr, flush=True
        )
        found = plan(PLANS[name], report=say)
        files.write_whole(FOLDER / f"{name}.json", json.dumps(found, indent=1) + "\n")
    files.write_whole(Path(PAGE), page(PAGE.read_text(), table()))


if __name__ == "__main__":
    main(sys.argv[1:])
