"""Small sudoku with one solution each, the whole grid written in one step, cell under cell of the prompt.

    F1.3.3...2.....2.        1234341221434321        4x4
    G12..56...               123456456123...         6x6, boxes of 2 rows and 3 columns

No order is better than another to read, so that whoever decodes has to find one in which every digit is sure.
"""

import dataclasses
import re
from typing import ClassVar

import numpy as np

from jaxdec.training.tasks.contract import DELIMITER, Problem
from jaxdec.training.tasks.sudoku import Sudoku


@dataclasses.dataclass(frozen=True)
class SudokuGrid(Sudoku):
    """As `Sudoku`, of 4x4 cells."""

    empty: tuple[int, int] = (3, 6)
    name: ClassVar[str] = "sudoku-4x4"
    letter: ClassVar[str] = "F"

    @property
    def longest(self) -> int:
        """The cells."""
        return self.side**2 + 1

    def draw(self, generator: np.random.Generator) -> Problem:
        """As `Sudoku`."""
        grid, full = self.puzzle(generator)
        return Problem(self.write(grid), _line(full))

    def check(self, prompt: str, solution: str) -> bool:
        """Whether a text is the solution."""
        solved = self.solved(prompt)
        return solved is not None and solution == _line(solved)

    def answer(self, prompt: str, solution: str) -> str | None:
        """The grid, right or wrong; None if it is none."""
        read = re.fullmatch(f"([1-6]{{{self.side**2}}}){DELIMITER}", solution)
        return read[1] if read else None

    def sound(self, prompt: str, steps: str) -> bool:
        """Whether nothing is written, or the solution is."""
        return self.solved(prompt) is not None and (not steps or self.check(prompt, steps))


@dataclasses.dataclass(frozen=True)
class WideSudokuGrid(SudokuGrid):
    """As `Sudoku`, of 6x6 cells."""

    columns: int = 3
    empty: tuple[int, int] = (4, 9)
    name: ClassVar[str] = "sudoku-6x6"
    letter: ClassVar[str] = "G"


def _line(grid: tuple[int, ...]) -> str:
    return "".join(map(str, grid)) + DELIMITER
