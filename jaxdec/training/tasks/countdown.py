"""Countdown: combine all numbers, each used once, so that the target comes out; one combination a step.

    C3,25,7=82        25+7=32 | ...        a step takes two numbers from the pool and puts its result there

The first step has to be guessed: most of them leave no way to the target.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from jaxdec.training.tasks.arithmetic import apply
from jaxdec.training.tasks.contract import DELIMITER, Problem, Task, split_steps

_NUMBER = "[0-9]{1,6}"
_PROMPT = re.compile(rf"C({_NUMBER}(?:,{_NUMBER}){{1,5}})=({_NUMBER})\n")
_STEP = re.compile(rf"({_NUMBER})([-+*])({_NUMBER})=({_NUMBER})")


@dataclasses.dataclass(frozen=True)
class Countdown(Task):
    """Problems that are made by random combinations, so that each has a solution; results are never negative.

    Attributes:
      numbers: the fewest and the most numbers of a problem, 2 to 5.
      largest: the largest number, at least 2.
      limit: the largest result on the way that a problem is made with, and so the largest target.
    """

    numbers: tuple[int, int] = (3, 4)
    largest: int = 20
    limit: int = 99
    name: ClassVar[str] = "countdown"
    letter: ClassVar[str] = "C"

    def __post_init__(self):
        low, high = self.numbers
        if not 2 <= low <= high <= 5:
            raise ValueError(f"numbers must lie in [2, 5] and in order, got {low} and {high}")
        if not 2 <= self.largest <= 999:
            raise ValueError(f"largest must lie in [2, 999], got {self.largest}")
        if not self.largest < self.limit <= 99_999:
            raise ValueError(f"limit must lie in ({self.largest}, 99999], got {self.limit}")

    @property
    def longest(self) -> int:
        """Every step takes two numbers and a result."""
        return (self.numbers[1] - 1) * (3 * len(str(self.limit)) + 3)

    def draw(self, generator: np.random.Generator) -> Problem:
        """Random numbers, combined at random."""
        while True:
            count = int(generator.integers(self.numbers[0], self.numbers[1] + 1))
            pool = [int(x) for x in generator.integers(1, self.largest + 1, count)]
            prompt, steps = ",".join(map(str, pool)), []
            while len(pool) > 1:
                moves = [move for move in _moves(pool) if 1 <= move[3] <= self.limit]
                if not moves:
                    break
                i, sign, j, result = moves[generator.integers(len(moves))]
                steps.append(f"{pool[i]}{sign}{pool[j]}={result}{DELIMITER}")
                pool = [x for k, x in enumerate(pool) if k not in (i, j)] + [result]
            if len(pool) == 1:
                return Problem(f"{self.letter}{prompt}={pool[0]}{DELIMITER}", "".join(steps))

    def key(self, prompt: str) -> str:
        """The numbers in order, and the target."""
        read = _read(prompt)
        return prompt if read is None else f"{sorted(read[0])}={read[1]}"

    def check(self, prompt: str, solution: str) -> bool:
        """Whether the steps are right, use every number once, and end with the target."""
        left = _left(prompt, solution)
        return left is not None and list(left[0]) == [left[1]]

    def answer(self, prompt: str, solution: str) -> str | None:
        """The formula that the steps stand for, sums and products in a fixed order; None unless one number is left."""
        read, steps = _read(prompt), split_steps(solution)
        if read is None or steps is None:
            return None
        pool = [(x, str(x)) for x in read[0]]
        for step in steps:
            parsed = _STEP.fullmatch(step)
            if parsed is None:
                return None
            parts = []
            for digits in (parsed[1], parsed[3]):
                found = next((one for one in pool if one[0] == int(digits)), None)
                if found is None:
                    return None
                pool.remove(found)
                parts.append(found[1])
            parts = parts if parsed[2] == "-" else sorted(parts)
            pool.append((int(parsed[4]), f"({parts[0]}{parsed[2]}{parts[1]})"))
        return pool[0][1] if len(pool) == 1 else None

    def sound(self, prompt: str, steps: str) -> bool:
        """Whether the steps are right and some combination of what is left gives the target."""
        left = _left(prompt, steps)
        return left is not None and reachable(tuple(sorted(left[0])), left[1])


@functools.lru_cache(100_000)
def reachable(pool: tuple[int, ...], target: int) -> bool:
    """Whether some combination of all numbers of a pool gives the target, by trying all.

    Args:
      pool: the numbers, sorted.
      target: of them.
    """
    if len(pool) == 1:
        return pool[0] == target
    return any(
        reachable(
            tuple(sorted([x for k, x in enumerate(pool) if k not in (i, j)] + [result])), target
        )
        for i, _, j, result in _moves(pool)
    )


def _moves(pool: list[int] | tuple[int, ...]) -> Iterator[tuple[int, str, int, int]]:
    """All combinations of two numbers, `(i, sign, j, result)`, results not negative."""
    for i, a in enumerate(pool):
        for j, b in enumerate(pool):
            if i < j:
                yield i, "+", j, a + b
                yield i, "*", j, a * b
            if i != j and a >= b:
                yield i, "-", j, a - b


def _read(prompt: str) -> tuple[list[int], int] | None:
    read = _PROMPT.fullmatch(prompt)
    return None if read is None else ([int(x) for x in read[1].split(",")], int(read[2]))


def _left(prompt: str, solution: str) -> tuple[list[int], int] | None:
    """What is left of the pool after the steps, and the target; None if a step is wrong."""
    read, steps = _read(prompt), split_steps(solution)
    if read is None or steps is None:
        return None
    pool, target = read
    for step in steps:
        parsed = _STEP.fullmatch(step)
        if parsed is None:
            return None
        a, b, result = int(parsed[1]), int(parsed[3]), int(parsed[4])
        if step != f"{a}{parsed[2]}{b}={result}" or apply(a, parsed[2], b) != result:
            return None
        for number in (a, b):
            if number not in pool:
                return None
            pool.remove(number)
        pool.append(result)
    return pool, target
