"""Columns of the tables: cells made of a row, and those that several cases have."""

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]


def number(name: str, form: str, scale: float = 1.0) -> Callable[[Row], str]:
    """A cell with a number of a row, a dash where there is none."""
    scaled = lambda value: value if scale == 1.0 else value * scale  # whole numbers stay so
    return lambda row: "–" if row.get(name) is None else format(scaled(row[name]), form)


def plus_minus(name: str, form: str) -> Callable[[Row], str]:
    """A cell with a number and its standard error, where a row has one."""

    def cell(row: Row) -> str:
        error = row.get(f"{name}_error")
        return number(name, form)(row) + ("" if error is None else f" ± {error:{form.lstrip('+')}}")

    return cell


def word(name: str) -> Callable[[Row], str]:
    """A cell with a word."""
    return lambda row: str(row.get(name) or "")


def flag(name: str) -> Callable[[Row], str]:
    """A cell with yes or no, a dash where nobody asked."""
    return lambda row: {True: "yes", False: "**no**"}.get(row.get(name), "–")


def spread(name: str, form: str, scale: float = 1.0) -> Callable[[Row], str]:
    """A cell with a median and its quartiles."""

    def cell(row: Row) -> str:
        if row.get(name) is None:
            return "–"
        middle, low, high = (x * scale for x in (row[name], *row[f"{name}_quartiles"]))
        return f"{middle:{form}} ({low:{form}}–{high:{form}})"

    return cell


def method(row: Row) -> str:
    """The method and what it is a control of."""
    return f"{row['method']} ({row['about']})" if row["about"] else row["method"]


def depths(row: Row) -> str:
    """Acceptance by depth."""
    return " ".join("–" if a is None else f"{a:.2f}" for a in row["acceptance_by_depth"])


def differences(row: Row) -> str:
    """Rows that leave plain decoding, with the gap between the two best tokens there."""
    found = row["first_differences"]
    if row["exactness"] == "distribution-identical" and row["temperature"] > 0:
        return "every row: the same law, drawn otherwise"
    if found is None:
        return "not compared: another law"
    if not found:
        return "none"
    return f"{len(found)} rows, largest gap {max(d['gap'] for d in found):.1e}"


SPEED: tuple[Column, ...] = (
    ("tokens/forward", number("tokens_per_forward", ".2f")),
    ("acceptance", number("acceptance", ".1%")),
    ("verify ratio R", number("verify_ratio", ".2f")),
    ("draft ratio c", number("draft_ratio", ".3f")),
    ("predicted S", number("predicted_ratio", ".2f")),
    ("times plain", spread("wall_ratio", ".2f")),
    ("tokens/s", number("tokens_per_second", ".0f")),
    ("identical", number("identical", ".2%")),
)
COST: tuple[Column, ...] = (
    ("times plain, prompt included", number("end_to_end_ratio", ".2f")),
    ("GB/s", number("bytes_per_second", ".1f", 1e-9)),
    ("of copy", number("bandwidth_share", ".0%")),
    ("prefill s", number("prefill_seconds", ".3f")),
    ("compile s", number("compile_seconds", ".1f")),
    ("exactness", word("exactness")),
)
SIZE: tuple[Column, ...] = (
    ("target", word("target")),
    ("parameters", number("parameters", ".1f", 1e-6)),
)
METHOD: Column = ("method", method)
TEMPERATURE: Column = ("temperature", number("temperature", ".1f"))
IDENTICAL: Column = ("identical", number("identical", ".2%"))
EXACTNESS: Column = ("exactness", word("exactness"))
