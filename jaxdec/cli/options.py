"""Values of options, checked as they are parsed, and options that several commands have. Nothing here needs JAX."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

LARGEST_SEED = 2**32 - 1
LONGEST_DRAFT = 64
MOST_NODES = 256  # of a draft tree
MOST_SAMPLES = 1024  # of a prompt
AXES = ("data", "model", "sequence")  # of a mesh of devices
LONGEST_GAP = 1024  # that a length is chosen from


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """An integer from `low` to `high`."""
    limit = f"at least {low}" if high is None else f"from {low} to {high}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"got {text!r}, must be an integer {limit}")
        return value

    return parse


def lengths(text: str) -> tuple[int, ...]:
    """Different integers of at least 1, such as `4,8,12` or `1-16,24`; ascending."""
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.partition("-")
        try:
            first, last = int(low), int(high if dash else low)
        except ValueError:
            first = last = 0
        if not 1 <= first <= last <= LONGEST_GAP:
            raise argparse.ArgumentTypeError(
                f"got {text!r}, must be integers from 1 to {LONGEST_GAP} or ranges, such as 1-16,24"
            )
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def placement(text: str) -> dict[str, int]:
    """Devices along the axes of a mesh, such as `data=2,model=4`."""
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        if name not in AXES or name in sizes or not size.isdecimal() or int(size) < 1:
            raise argparse.ArgumentTypeError(
                f"got {text!r}, must be axes among {', '.join(AXES)}, each once, with their devices: data=2,model=4"
            )
        sizes[name] = int(size)
    return sizes


def argument_bytes(argument: str) -> bytes:
    """The bytes of an argument as they were typed, whatever the locale makes of them."""
    return os.fsencode(argument)


def text_bytes(argument: str) -> bytes:
    """The bytes of an argument, or of stdin for `-`."""
    return read("-") if argument == "-" else argument_bytes(argument)


def read(name: str) -> bytes:
    """The bytes of a file, or of stdin for `-`.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if stdin is closed.
    """
    if name != "-":
        return Path(name).read_bytes()
    if sys.stdin is None:
        raise ValueError("stdin is closed")
    return sys.stdin.buffer.read()


def add_models(parser: argparse.ArgumentParser, target: str = "code-target") -> None:
    """The options that choose the pair of models."""
    add_target(parser, target)
    parser.add_argument(
        "--draft", metavar="NAME", help="checkpoint that drafts (default: the method's own)"
    )


def add_target(parser: argparse.ArgumentParser, default: str) -> None:
    """The option that chooses the model."""
    parser.add_argument(
        "--target",
        "--model",
        default=default,
        metavar="NAME",
        help=f"checkpoint: a shipped name or a folder (default {default})",
    )


def add_draft_sizes(parser: argparse.ArgumentParser) -> None:
    """The options that choose how much is drafted."""
    parser.add_argument(
        "--draft-length",
        type=integer(1, LONGEST_DRAFT),
        metavar="N",
        help="tokens drafted a step, or the depth of a tree (default: the method's own)",
    )
    parser.add_argument(
        "--nodes",
        type=integer(1, MOST_NODES),
        metavar="N",
        help="nodes of a draft tree (default 64)",
    )


def add_text(parser: argparse.ArgumentParser) -> None:
    """The options that say how the prompt begins, and where the text ends."""
    add_stop(parser)
    parser.add_argument(
        "--chat",
        action="store_true",
        help="the prompt is what a user says: the checkpoint's chat template is put around it",
    )
    parser.add_argument(
        "--bos", action="store_true", help="the prompt starts a file; it may then be empty"
    )


def add_stop(parser: argparse.ArgumentParser) -> None:
    """The option that says where texts end; `stop_strings` reads it."""
    parser.add_argument(
        "--stop",
        "--stop-string",
        action="append",
        default=[],
        metavar="TEXT",
        help="end after this text; repeatable",
    )


def add_constraint(parser: argparse.ArgumentParser) -> None:
    """The options that say what the text may be at all."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--regex",
        metavar="PATTERN",
        help="the text matches this regular expression as a whole, in the syntax of Rust's regex",
    )
    group.add_argument(
        "--json-schema",
        metavar="FILE",
        help="the text is JSON of this schema, - for stdin",
    )


def stop_strings(arguments: argparse.Namespace) -> list[bytes]:
    """Those that were given."""
    return [argument_bytes(stop) for stop in arguments.stop]


def add_temperature(parser: argparse.ArgumentParser) -> None:
    """The option that chooses how random the text is."""
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.8,
        metavar="X",
        help="0 is greedy, 1 is the model's own law (default 0.8)",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """The option that chooses the random key."""
    parser.add_argument("--seed", type=integer(0, LARGEST_SEED), default=0, help="random key")


def add_placement(parser: argparse.ArgumentParser) -> None:
    """The option that spreads the decode over devices."""
    parser.add_argument(
        "--placement",
        type=placement,
        metavar="AXIS=N,...",
        help="over how many devices rows (data), heads and widths (model) and the cache's slots (sequence) are split: "
        "data=2,model=4",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """The options that choose how the text is printed."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--no-stream", action="store_true", help="print when all is done, decoded in one loop"
    )
