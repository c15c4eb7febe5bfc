"""The command line: `jaxdec demo`, `generate`, `infill`, `denoise`, `bench`, `train` and `info`.

Bad input ends with one line on stderr and exit code 2.
"""

import argparse
import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import NoReturn

import jaxdec
from jaxdec.cli import bench, demo, denoise, generate, infill, info, train

COMMANDS = {
    "demo": demo,
    "generate": generate,
    "infill": infill,
    "denoise": denoise,
    "bench": bench,
    "train": train,
    "info": info,
}


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong with the arguments, so that it is reported like any other bad input."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = _Parser(
        prog="jaxdec", description="Decoding algorithms for JAX and TPU, on shipped code models."
    )
    top.add_argument("--version", action="version", version=jaxdec.__version__)
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    return top


def _unraisable(what) -> None:
    """Drops what tensorstore throws after the fact, when a damaged checkpoint has been reported already."""
    if not (isinstance(what.exc_value, RuntimeError) and "loop is closed" in str(what.exc_value)):
        sys.__unraisablehook__(what)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 2 for bad input, 130 after Ctrl-C, 141 after a broken pipe."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports its internals as warnings
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable
    name = "jaxdec"
    try:
        arguments = parser().parse_args(argv)
        name = f"jaxdec {arguments.command}"
        COMMANDS[arguments.command].run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError) as error:
        print(f"{name}: {textwrap.shorten(str(error), 400, placeholder=' ...')}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
