"""HumanEval-Infilling: Python functions with a gap, and the tests that tell whether a filled one works.

The public files of openai/human-eval-infilling (MIT) are read from a folder and are no part of this repository. Text is
bytes throughout; a gap is filled with as many as it had, as in 2504.20456.
"""

import ast
import dataclasses
import gzip
import json
import os
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import ROOT
from jaxdec import text

FILES = {
    "single line": "HumanEval-SingleLineInfilling.jsonl.gz",
    "multi line": "HumanEval-MultiLineInfilling.jsonl.gz",
    "random span": "HumanEval-RandomSpanInfilling.jsonl.gz",
}
WINDOW, SUFFIX = 512, 128
"""Tokens of a row, and how many of them may be text after the gap."""


def folder() -> Path:
    """Where public data lies: the folder in `JAXDEC_DATA`, else `shared/data` beside the repository."""
    named = os.environ.get("JAXDEC_DATA")
    return Path(named) if named else ROOT.parent / "shared" / "data"


@dataclasses.dataclass(frozen=True)
class Problem:
    """A file with a gap.

    Attributes:
      name: unique.
      prefix: the file up to the gap.
      gap: what stood there.
      suffix: the rest of the file.
      test: code that raises if the function is wrong.
    """

    name: str
    prefix: bytes
    gap: bytes
    suffix: bytes
    test: bytes

    def filled(self, fill: bytes) -> bytes:
        """The file with its gap filled."""
        return self.prefix + fill + self.suffix

    def program(self, fill: bytes) -> bytes:
        """The filled file and its test; it ends without an error iff the function works."""
        return self.filled(fill) + b"\n" + self.test

    def row(self) -> tuple[np.ndarray, np.ndarray]:
        """What a model reads: tokens `[n]`, n up to `WINDOW`, with `MASK` in the gap, and which are visible.

        Up to `SUFFIX` bytes after the gap, and what room is left before it; `BOS` where the beginning of the file fits.
        """
        after = text.to_ids(self.suffix[:SUFFIX])
        before = np.concatenate([[text.BOS], text.to_ids(self.prefix)])
        before = before[-(WINDOW - len(self.gap) - len(after)) :]
        visible = np.ones(len(before) + len(self.gap) + len(after), bool)
        visible[len(before) : len(before) + len(self.gap)] = False
        return np.concatenate([before, np.full(len(self.gap), text.MASK), after]), visible


def load(kind: str) -> list[Problem]:
    """All problems of a file, in its order.

    Args:
      kind: a key of `FILES`.

    Raises:
      ValueError: if the file is not there, or is not one of problems.
    """
    path = folder() / FILES[kind]
    if not path.is_file():
        raise ValueError(
            f"no file {path}; the folder in JAXDEC_DATA must hold the files of openai/human-eval-infilling"
        )
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [_problem(json.loads(line)) for line in lines]
    except (
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise ValueError(f"{path} does not hold problems: {error!r}") from error


def _problem(held: dict[str, str]) -> Problem:
    test = f"{held['test']}\ncheck({held['entry_point']})\n"
    parts = (held["prompt"], held["canonical_solution"], held["suffix"], test)
    return Problem(held["task_id"], *(part.encode() for part in parts))


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some problems of a file.

    Attributes:
      problems: the chosen ones.
      held: problems in the file.
      empty: of these, with an empty gap; left out.
      too_long: with a gap that is longer than the bound; left out.
    """

    problems: tuple[Problem, ...]
    held: int
    empty: int
    too_long: int


def choose(problems: Sequence[Problem], count: int, longest: int) -> Subset:
    """`count` problems, or all, evenly spaced over those with a gap of 1 to `longest` bytes.

    Raises:
      ValueError: if no problem has such a gap, `count < 1`, or a gap of `longest` would leave no room for its context.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if longest > (room := WINDOW - SUFFIX - 1):
        raise ValueError(f"longest must be at most {room}, got {longest}")
    fit = [problem for problem in problems if 1 <= len(problem.gap) <= longest]
    if not fit:
        raise ValueError(f"none of {len(problems)} problems has a gap of 1 to {longest} bytes")
    empty = sum(not problem.gap for problem in problems)
    count = min(count, len(fit))
    chosen = tuple(fit[i * len(fit) // count] for i in range(count))
    return Subset(chosen, len(problems), empty, len(problems) - len(fit) - empty)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Rows of one shape, so that all batches share a program.

    Attributes:
      tokens: int32 `[B, WINDOW]`, right-padded, with `MASK` in the gaps.
      visible: bool `[B, WINDOW]`.
      sizes: int `[B]`.
      count: rows that are problems; the others repeat the last one and are dropped.
    """

    tokens: np.ndarray
    visible: np.ndarray
    sizes: np.ndarray
    count: int

    def filled(self, fills: Sequence[bytes]) -> np.ndarray:
        """The tokens with the gaps of the first rows filled anew."""
        tokens = self.tokens.copy()
        for row, fill in enumerate(fills):
            tokens[row, self.gap(row)] = text.to_ids(fill)
        return tokens

    def fills(self, tokens: np.ndarray) -> list[bytes]:
        """What stands in the gaps of the problems, in tokens `[B, WINDOW]`."""
        return [tokens[row, self.gap(row)].astype(np.uint8).tobytes() for row in range(self.count)]

    def gap(self, row: int) -> np.ndarray:
        """The places of a row's gap."""
        return np.flatnonzero(~self.visible[row, : self.sizes[row]])


def batch(problems: Sequence[Problem], size: int) -> Batch:
    """Up to `size` problems as a batch of `size` rows."""
    rows = [problem.row() for problem in [*problems, *[problems[-1]] * (size - len(problems))]]
    tokens = np.full((size, WINDOW), text.PAD, np.int32)
    visible = np.zeros((size, WINDOW), bool)
    for row, (ids, seen) in enumerate(rows):
        tokens[row, : len(ids)], visible[row, : len(ids)] = ids, seen
    return Batch(tokens, visible, np.array([len(ids) for ids, _ in rows]), len(problems))


def parses(source: bytes) -> bool:
    """Whether a file is Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True
