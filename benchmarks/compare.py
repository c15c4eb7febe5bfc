"""What differs between two results of a case, clocks apart: the proof that decoding did not change."""

import math
from collections.abc import Iterator
from typing import Any

from benchmarks.cases import CASES
from benchmarks.columns import Row

Result = dict[str, Any]

CLOCKS = frozenset(
    {
        "bandwidth_share",
        "bytes_per_second",
        "draft_ratio",
        "end_to_end_ratio",
        "overhead",
        "memory",
        "memory_beside_imports",
        "memory_growth",
        "memory_of_imports",
        "memory_quarters",
        "occupancy",
        "predicted_ratio",
        "requests_per_second",
        "step_share",
        "times",
        "times_cached",
        "times_host",
        "times_static",
        "tokens_per_second",
        "verify_ratio",
        "wall_ratio",
    }
)
"""Values that clocks give; beside them, whatever is in seconds, and quartiles."""
AROUND = frozenset({"about", "bar", "network", "note", "repeats", "calls"})
"""Values that say how something was measured, or what it should reach."""


def timed(name: str) -> bool:
    """Whether a value of a row may differ from run to run."""
    return name in CLOCKS or name.endswith(("seconds", "_quartiles"))


def differences(old: Result, new: Result, *, within: float = 0.0) -> list[str]:
    """A line for everything that differs and is not the clock's: settings of the runs, rows, and values of rows.

    Settings, rows and values that are new have nothing to be compared with.

    Args:
      old: a result.
      new: another one of the same case.
      within: relative difference that real numbers may have; integers, and shares of them, have none by nature.

    Raises:
      ValueError: if the results are of different cases.
    """
    if old["case"] != new["case"]:
        raise ValueError(f"results of different cases: {old['case']} and {new['case']}")
    case = CASES[old["case"]]
    lines = []
    for part in ("models", "corpus", "scale"):
        for name in sorted(old[part].keys() & new[part].keys()):
            if old[part][name] != new[part][name]:
                lines.append(f"{part}: {name}: {old[part][name]} -> {new[part][name]}")
    before, after = ({_key(row, case.labels): row for row in r["rows"]} for r in (old, new))
    for key, row in before.items():
        where = _words(key)
        if key not in after:
            lines.append(f"{where}: no longer there")
        elif row.get("method") not in case.by_clock:
            lines += [f"{where}: {line}" for line in _values(row, after[key], within)]
    return lines


def _key(row: Row, labels: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(row.get(label) for label in labels)


def _words(key: tuple[Any, ...]) -> str:
    return ", ".join(str(value) for value in key if value not in (None, ""))


def _values(old: Row, new: Row, within: float) -> Iterator[str]:
    """A line for each value that differs."""
    for name in old:
        if timed(name) or name in AROUND:
            continue
        if name not in new:
            yield f"{name}: no longer there"
        elif not _same(old[name], new[name], within):
            yield f"{name}: {old[name]} -> {new[name]}"


def _same(old: Any, new: Any, within: float) -> bool:
    if isinstance(old, list) and isinstance(new, list):
        pairs = zip(old, new, strict=False)
        return len(old) == len(new) and all(_same(a, b, within) for a, b in pairs)
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_same(old[k], new[k], within) for k in old)
    if isinstance(old, float) and isinstance(new, float) and within:
        return math.isclose(old, new, rel_tol=within)
    return old == new
