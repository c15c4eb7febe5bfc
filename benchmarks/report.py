"""The report: Markdown from the JSON files of results, and from nothing else."""

import json
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.cases import CASES
from benchmarks.columns import Column, Row
from benchmarks.degenerate import TRUE_TEXT

RESULTS = ROOT / "benchmarks" / "results"
LEGEND = """\
*tokens/forward*: new tokens for each forward of the target, the bonus token included. *acceptance*: accepted over
proposed drafts. *R*: a forward of all tokens that a step scores over a forward of one; *c*: a draft token over a
forward of one; both measured inside compiled loops. *predicted S* = tokens/forward / (R + length c).
*times plain*: seconds of plain decoding over seconds of the method, the same weights in the same process in turns;
median and quartiles over the repeats; decoding loops only, compilation apart. *identical*: share of tokens equal to
those of plain decoding. *of copy*: bytes of weights and cache read a second over the bandwidth at which the machine
copies memory; weights that stay in a cache can exceed it.
"""


def read(path: Path) -> dict[str, Any]:
    """One result.

    Raises:
      ValueError: if the file is not one, or there is none.
    """
    try:
        held = json.loads(path.read_text())
        if held["case"] not in CASES or not held["rows"]:
            raise ValueError(f"there is no case {held['case']!r} with {len(held['rows'])} rows")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not a benchmark result: {error}") from error
    return held


def load(folder: Path) -> list[dict[str, Any]]:
    """All results of a folder, in the order of the cases and then by file name.

    Raises:
      ValueError: if a file is not a result.
    """
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    order = list(CASES)
    return sorted(found, key=lambda held: order.index(held["case"]))


def table(rows: list[Row], columns: tuple[Column, ...]) -> str:
    """A Markdown table."""
    lines = [[title for title, _ in columns], ["---"] * len(columns)]
    lines += [[cell(row) for _, cell in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def section(result: dict[str, Any]) -> str:
    """One case on one machine."""
    case, machine, models = CASES[result["case"]], result["machine"], result["models"]
    first = result["rows"][0]
    amount = f"; {first['new_tokens']} new tokens a prompt" if "new_tokens" in first else ""
    amount += f", {first['repeats']} repeats" if "repeats" in first else ""
    quick = " **A quick run: not a measurement.**" if result["quick"] else ""
    sizes = " and ".join(f"{m['name']} ({m['parameters'] / 1e6:.2f}M)" for m in models.values())
    sizes += f", {models['target']['dtype']}{amount}. " if models else ""
    about = " ".join(result["about"].split())
    legend = f"\n{case.legend.strip()}\n" if case.legend else ""
    printed, note = case.sound(result["rows"]), case.withheld(result["rows"])
    note = f"\n{note}\n" if note else ""
    drawn = case.chart and any(row.get("method") != TRUE_TEXT for row in printed)
    picture = f"\n![{case.name}](images/{case.name}.svg)\n" if drawn else ""
    return (
        f"## {result['case']}: {machine['device']}\n\n{about}{quick}\n\n{sizes}"
        f"{machine['devices']} x {machine['device']} on {machine['cpu']}, {machine['cores']} cores, "
        f"copies {machine['copy_bytes_per_second'] / 1e9:.1f} GB/s; jax {machine['jax']}, "
        f"commit {machine['commit']}, {machine['date']}.\n\n"
        + (table(printed, case.columns) if printed else "")
        + (note if printed else note.lstrip())
        + legend
        + picture
    )


def render(results: list[dict[str, Any]]) -> str:
    """The report: every case with all of its rows and columns."""
    if not results:
        return "No results yet.\n"
    return "\n".join([LEGEND, *(section(result) for result in results)])
