"""Shows versions, devices, shipped checkpoints and methods."""

import argparse
import importlib.metadata
import platform

import jax
from rich import box
from rich.console import Console
from rich.table import Table

import jaxdec
from jaxdec import catalogue, checkpoints

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes no options."""


def run(arguments: argparse.Namespace) -> None:
    """Prints what is there."""
    console = Console(highlight=False, markup=False)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    console.print(f"jaxdec {jaxdec.__version__}, Python {platform.python_version()}, {versions}\n")
    devices = jax.devices()
    console.print(f"{len(devices)} {devices[0].platform} device(s): {devices[0].device_kind}")
    console.print(checkpoint_table())
    methods = Table("method", "what", "exactness", box=box.SIMPLE)
    methods.columns[0].no_wrap = methods.columns[2].no_wrap = True
    for method in catalogue.METHODS.values():
        methods.add_row(method.name, method.title, method.exactness.value)
    console.print(methods)


def checkpoint_table() -> Table:
    """The shipped checkpoints; one that cannot be loaded says why."""
    table = Table("checkpoint", "parameters", "bits per byte", "about", box=box.SIMPLE)
    names = checkpoints.available()
    if not names:
        table.add_row("none", "", "", "`jaxdec train` makes one")
    for name in names:
        try:
            checkpoint = checkpoints.load_any(name)
        except ValueError as error:
            table.add_row(name, "", "", str(error))
            continue
        bits = checkpoint.facts.get("held_out_bits_per_byte")
        table.add_row(
            name,
            f"{checkpoint.size:,}",
            "" if bits is None else f"{bits:.3f}",
            str(checkpoint.facts.get("about", "")),
        )
    return table
