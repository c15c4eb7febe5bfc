"""Shows versions, devices, shipped checkpoints and methods."""

import argparse
import importlib.metadata
import platform
import textwrap
from collections.abc import Sequence

import jax
from rich import box
from rich.console import Console
from rich.table import Table

import jaxdec
from jaxdec import catalogue, checkpoint_folder, checkpoints
from jaxdec.cli.display import output

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
WIDE = 72
"""Columns from which a table is readable; below, each of its rows is a paragraph."""


def run(arguments: argparse.Namespace) -> None:
    """Prints what is there."""
    console = output()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    console.print(f"jaxdec {jaxdec.__version__}, Python {platform.python_version()}, {versions}\n")
    devices = jax.devices()
    console.print(f"{len(devices)} {devices[0].platform} device(s): {devices[0].device_kind}")
    _list(console, ("checkpoint", "parameters", "bits per byte", "about"), checkpoint_rows())
    methods = [(row.name, row.title, row.exactness.value) for row in catalogue.METHODS.values()]
    _list(console, ("method", "what", "exactness"), methods)


def _list(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, or where it would not fit a paragraph a row: its first cell, and below it the others."""
    if console.width >= WIDE:
        table = Table(*columns, box=box.SIMPLE)
        table.columns[0].no_wrap = table.columns[-1].no_wrap = columns[-1] == "exactness"
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    console.print(f"\n{', '.join(columns)}:")
    for first, *others in rows:
        console.print(first, soft_wrap=True)  # a name that is too long is still one word
        for cell in filter(None, others):
            indent = "  "
            lines = textwrap.wrap(
                cell,
                console.width,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            console.print("\n".join(lines), soft_wrap=True)


def checkpoint_rows() -> list[tuple[str, str, str, str]]:
    """The shipped checkpoints; one that cannot be loaded says why."""
    rows = []
    for name in checkpoint_folder.available():
        try:
            checkpoint = checkpoints.load_any(name)
        except ValueError as error:
            rows.append((name, "", "", str(error)))
            continue
        bits = checkpoint.facts.get("held_out_bits_per_byte")
        about = str(checkpoint.facts.get("about", ""))
        rows.append((name, f"{checkpoint.size:,}", "" if bits is None else f"{bits:.3f}", about))
    return rows or [("none", "", "", "`jaxdec train` makes one")]
