"""The command line: `demo`, `generate`, `search`, `infill`, `denoise`, `serve`, `bench`, `train`, `plan` and `info`.

Bad input ends with one line on stderr and exit code 2. What needs JAX is imported when a command runs: help is quick.
"""

import importlib
import logging
import os
import sys
import textwrap
from collections.abc import Sequence

from jaxdec.cli import process
from jaxdec.cli.arguments import parser


def _unraisable(what) -> None:
    """Drops what tensorstore throws after the fact, when a damaged checkpoint has been reported already."""
    if not (isinstance(what.exc_value, RuntimeError) and "loop is closed" in str(what.exc_value)):
        sys.__unraisablehook__(what)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: its words; those of the process if not given.

    Returns:
      The exit code: 0; 1 if the model's law is not finite; 2 for bad input; 130 after Ctrl-C; 141 after a broken pipe.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports its internals as warnings
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable
    process.open_streams()
    name = "jaxdec"
    try:
        arguments = parser().parse_args(argv)
        name = f"jaxdec {arguments.command}"
        importlib.import_module(f"jaxdec.cli.{arguments.command}").run(arguments)
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


def script() -> int:
    """Runs the command of this process, which ends at once at Ctrl-C."""
    process.hear_interrupts()
    process.keep_programs()
    return main()
