"""Small sudoku with one solution each, 4x4 or 6x6, filled in one cell a step.

    S1.3.3...2.....2.        a2=2 | a4=4 | ...        row, column, digit; the dots of the prompt are empty cells

The solution is written in reading order, so that the first cells have to be found by looking ahead.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from jaxdec.training.tasks.contract import DELIMITER, Problem, Task, split_steps

_STEP = re.compile("([a-f])([1-6])=([1-6])")
Grid = tuple[int, ...]
"""The digits of the cells in reading order, 0 for an empty one."""


@dataclasses.dataclass(frozen=True)
class Sudoku(Task):
    """Grids of side `rows * columns` whose rows, columns and boxes hold every digit once.

    Attributes:
      rows: of a box, 2.
      columns: of a box, 2 or 3.
      empty: the fewest and the most empty cells that are asked for; grids that would have a second solution keep more
        digits.
    """

    rows: int = 2
    columns: int = 2
    empty: tuple[int, int] = (6, 11)
    name: ClassVar[str] = "sudoku"
    letter: ClassVar[str] = "S"

    def __post_init__(self):
        if self.rows != 2 or self.columns not in (2, 3):
            raise ValueError(
                f"boxes have 2 rows and 2 or 3 columns, got {self.rows} and {self.columns}"
            )
        low, high = self.empty
        if not 1 <= low <= high <= self.side**2:
            raise ValueError(
                f"empty must lie in [1, {self.side**2}] and in order, got {low} and {high}"
            )

    @property
    def side(self) -> int:
        """Cells of a row."""
        return self.rows * self.columns

    @property
    def longest(self) -> int:
        """A step for every empty cell."""
        return 5 * self.empty[1]

    def draw(self, generator: np.random.Generator) -> Problem:
        """A random grid, from which digits are taken in random order as long as no second solution appears."""
        grid, full = self.puzzle(generator)
        steps = [self.step(i, full[i]) for i, digit in enumerate(grid) if not digit]
        return Problem(self.write(grid), "".join(steps))

    def parallel_limit(self, prompt: str, forwards: int) -> float | None:
        """One solution."""
        return None if _solved(self, prompt) is None else 1.0

    def puzzle(self, generator: np.random.Generator) -> tuple[Grid, Grid]:
        """A random grid with one solution, and that solution."""
        digits = [int(x) + 1 for x in generator.permutation(self.side)]
        blank = (0,) * self.side**2
        first = list(blank)
        first[: self.side] = digits  # a random row, then a random order of the digits to try
        order = [int(x) + 1 for x in generator.permutation(self.side)]
        full = next(self.solutions(tuple(first), order))
        wanted = int(generator.integers(self.empty[0], self.empty[1] + 1))
        grid, taken = list(full), 0
        for cell in generator.permutation(self.side**2):
            if taken == wanted:
                break
            grid[cell] = 0
            if self.unique(tuple(grid)):
                taken += 1
            else:
                grid[cell] = full[cell]
        return tuple(grid), full

    def solved(self, prompt: str) -> Grid | None:
        """The solution of a prompt; None if it has none, or several."""
        return _solved(self, prompt)

    def write(self, grid: Grid) -> str:
        """The prompt of a grid."""
        return self.letter + "".join(str(x or ".") for x in grid) + DELIMITER

    def step(self, cell: int, digit: int) -> str:
        """The step that writes a digit to a cell."""
        return f"{'abcdef'[cell // self.side]}{cell % self.side + 1}={digit}{DELIMITER}"

    def read(self, prompt: str) -> Grid | None:
        """The grid of a prompt; None if it is none."""
        digits = "".join(str(i + 1) for i in range(self.side))
        if not re.fullmatch(f"{self.letter}[.{digits}]{{{self.side**2}}}{DELIMITER}", prompt):
            return None
        return tuple(0 if x == "." else int(x) for x in prompt[1:-1])

    def solutions(self, grid: Grid, order: list[int] | None = None) -> Iterator[Grid]:
        """All solutions of a grid, the cell with the fewest digits first.

        Args:
          grid: with empty cells or without.
          order: in which digits are tried; ascending if not given.
        """
        cells = _peers(self.rows, self.columns)
        order = order or list(range(1, self.side + 1))
        if any(x and any(grid[peer] == x for peer in cells[i]) for i, x in enumerate(grid)):
            return
        yield from _fill(list(grid), cells, order)

    def unique(self, grid: Grid) -> bool:
        """Whether a grid has exactly one solution."""
        found = self.solutions(grid)
        return next(found, None) is not None and next(found, None) is None

    def key(self, prompt: str) -> str:
        """The prompt with its digits renamed in order of appearance."""
        names: dict[str, str] = {}
        named = (names.setdefault(x, str(len(names) + 1)) if x != "." else x for x in prompt[1:-1])
        return "".join(named)

    def check(self, prompt: str, solution: str) -> bool:
        """Whether every empty cell is filled once, in any order, with the digit of the solution."""
        filled = self.filled(prompt, solution)
        return filled is not None and 0 not in filled and filled == _solved(self, prompt)

    def answer(self, prompt: str, solution: str) -> str | None:
        """The full grid, right or wrong; None if a cell is empty, or filled twice."""
        filled = self.filled(prompt, solution)
        return None if filled is None or 0 in filled else "".join(map(str, filled))

    def sound(self, prompt: str, steps: str) -> bool:
        """Whether all digits so far are those of the solution."""
        filled, solved = self.filled(prompt, steps), _solved(self, prompt)
        if filled is None or solved is None:
            return False
        return all(x in (0, y) for x, y in zip(filled, solved, strict=True))

    def filled(self, prompt: str, solution: str) -> Grid | None:
        """The grid after some steps; None if one of them is no step, or its cell is not empty."""
        grid, steps = self.read(prompt), split_steps(solution)
        if grid is None or steps is None:
            return None
        cells = list(grid)
        for step in steps:
            read = _STEP.fullmatch(step)
            if read is None:
                return None
            row, column, digit = "abcdef".index(read[1]), int(read[2]) - 1, int(read[3])
            if max(row, column, digit - 1) >= self.side or cells[row * self.side + column]:
                return None
            cells[row * self.side + column] = digit
        return tuple(cells)


@functools.lru_cache(10_000)
def _solved(task: Sudoku, prompt: str) -> Grid | None:
    """The solution of a prompt; None if it has none, or several."""
    grid = task.read(prompt)
    found = [] if grid is None else list(_first_two(task.solutions(grid)))
    return found[0] if len(found) == 1 else None


def _first_two(found: Iterator[Grid]) -> Iterator[Grid]:
    for _, grid in zip(range(2), found, strict=False):
        yield grid


@functools.cache
def _peers(rows: int, columns: int) -> tuple[tuple[int, ...], ...]:
    """The cells that share a row, a column or a box with each cell, itself left out."""
    side = rows * columns
    place = [(i // side, i % side) for i in range(side**2)]
    box = [(r // rows, c // columns) for r, c in place]
    return tuple(
        tuple(
            j
            for j in range(side**2)
            if j != i
            and (place[i][0] == place[j][0] or place[i][1] == place[j][1] or box[i] == box[j])
        )
        for i in range(side**2)
    )


def _fill(cells: list[int], peers: tuple[tuple[int, ...], ...], order: list[int]) -> Iterator[Grid]:
    """All ways to fill the empty cells; `cells` is as it was when the search is over."""
    best: tuple[int, list[int]] | None = None
    for i, x in enumerate(cells):
        if x:
            continue
        taken = {cells[peer] for peer in peers[i]}
        free = [digit for digit in order if digit not in taken]
        if best is None or len(free) < len(best[1]):
            best = i, free
        if len(free) < 2:
            break
    if best is None:
        yield tuple(cells)
        return
    cell, free = best
    for digit in free:
        cells[cell] = digit
        yield from _fill(cells, peers, order)
    cells[cell] = 0
