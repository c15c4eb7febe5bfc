"""Values of options, checked as they are parsed."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from jaxdec import checkpoints
from jaxdec.checkpoints import Checkpoint, HeadsCheckpoint

LARGEST_SEED = 2**32 - 1
LONGEST_DRAFT = 64
MOST_NODES = 256  # of a draft tree
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


def argument_bytes(argument: str) -> bytes:
    """The bytes of an argument as they were typed, valid UTF-8 or not."""
    return argument.encode("utf-8", "surrogateescape")


def read(name: str) -> bytes:
    """The bytes of a file, or of stdin for `-`."""
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()


def add_models(
    parser: argparse.ArgumentParser, target: str = "code-target", draft: str | None = "code-draft"
) -> None:
    """The options that choose the pair of models."""
    add_target(parser, target)
    parser.add_argument(
        "--draft", default=draft, metavar="NAME", help="checkpoint of the draft model"
    )


def add_target(parser: argparse.ArgumentParser, default: str) -> None:
    """The option that chooses the model."""
    parser.add_argument(
        "--target", default=default, metavar="NAME", help="checkpoint: a shipped name or a folder"
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


def load(name: str) -> Checkpoint:
    """Loads a checkpoint of a model of bytes.

    Raises:
      ValueError: if there is none, it is damaged, or its vocabulary cannot hold every byte.
    """
    checkpoint = checkpoints.load(_named(name))
    _check_bytes(name, checkpoint.model.vocab_size)
    return checkpoint


def load_draft(name: str) -> Checkpoint | HeadsCheckpoint:
    """Loads a checkpoint of a model of bytes, or of heads on one.

    Raises:
      ValueError: as `load`.
    """
    checkpoint = checkpoints.load_any(_named(name))
    _check_bytes(name, checkpoint.model.vocab_size)
    return checkpoint


def _named(name: str) -> Path:
    if not name:
        raise ValueError("the name of a checkpoint is empty")
    return Path(name)


def _check_bytes(name: str, vocab_size: int) -> None:
    if vocab_size < 256:
        raise ValueError(
            f"checkpoint {name!r} has a vocabulary of {vocab_size}; text as bytes needs 256"
        )


def device() -> str:
    """The kind of the first device."""
    return jax.devices()[0].device_kind
