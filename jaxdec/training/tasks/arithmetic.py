"""Chains of arithmetic: operations from left to right, without precedence, one intermediate result a step.

A47+38-29*3        47+38=85 | 85-29=56 | 56*3=168
"""

import dataclasses
import re
from typing import ClassVar

import numpy as np

from jaxdec.training.tasks.contract import DELIMITER, Problem, Task, split_steps

_NUMBER = "[0-9]{1,6}"
_PROMPT = re.compile(rf"A({_NUMBER})((?:[-+*]{_NUMBER})+)\n")
_OPERATION = re.compile(rf"([-+*])({_NUMBER})")


@dataclasses.dataclass(frozen=True)
class Arithmetic(Task):
    """Chains of `+`, `-` and `*` with values from 0 to a limit; summands have two digits, factors one.

    Attributes:
      operations: the fewest and the most operations of a chain.
      limit: the largest value, 99 to 99,999.
    """

    operations: tuple[int, int] = (4, 8)
    limit: int = 999
    name: ClassVar[str] = "arithmetic"
    letter: ClassVar[str] = "A"

    def __post_init__(self):
        low, high = self.operations
        if not 1 <= low <= high:
            raise ValueError(f"operations must be at least 1 and in order, got {low} and {high}")
        if not 99 <= self.limit <= 99_999:
            raise ValueError(f"limit must lie in [99, 99999], got {self.limit}")

    @property
    def longest(self) -> int:
        """Every operation takes a value, a summand of two digits and a result."""
        return self.operations[1] * (2 * len(str(self.limit)) + 5)

    def draw(self, generator: np.random.Generator) -> Problem:
        """A random chain; every operation that keeps the value within the limits is as likely as the others."""
        value = int(generator.integers(10, 100))
        prompt, steps = f"{self.letter}{value}", []
        for _ in range(generator.integers(self.operations[0], self.operations[1] + 1)):
            ranges = {
                "+": (10, min(99, self.limit - value)),
                "-": (10, min(99, value)),
                "*": (2, min(9, self.limit // max(value, 1))),
            }
            possible = [
                (sign, *ends)
                for sign, ends in ranges.items()
                if ends[0] <= ends[1] and not (sign == "*" and value == 0)
            ]
            sign, low, high = possible[generator.integers(len(possible))]
            operand = int(generator.integers(low, high + 1))
            result = apply(value, sign, operand)
            steps.append(f"{value}{sign}{operand}={result}{DELIMITER}")
            prompt, value = f"{prompt}{sign}{operand}", result
        return Problem(prompt + DELIMITER, "".join(steps))

    def check(self, prompt: str, solution: str) -> bool:
        """Whether a text is the steps of the chain, each with its result."""
        steps, given = _expected(prompt), split_steps(solution)
        return steps is not None and given == steps

    def answer(self, prompt: str, solution: str) -> str | None:
        """The last result, without leading zeros."""
        steps = split_steps(solution)
        last = re.fullmatch(rf".*=({_NUMBER})", steps[-1]) if steps else None
        return str(int(last[1])) if last else None

    def sound(self, prompt: str, steps: str) -> bool:
        """Whether all steps so far are those of the chain."""
        expected, given = _expected(prompt), split_steps(steps)
        return expected is not None and given is not None and given == expected[: len(given)]

    def parallel_limit(self, prompt: str, forwards: int) -> float | None:
        """One solution."""
        return None if _expected(prompt) is None else 1.0


def apply(value: int, sign: str, operand: int) -> int:
    """The result of one operation."""
    if sign == "+":
        return value + operand
    return value - operand if sign == "-" else value * operand


def _expected(prompt: str) -> list[str] | None:
    """The one list of steps of a chain; None for another prompt."""
    read = _PROMPT.fullmatch(prompt)
    if read is None:
        return None
    value, steps = int(read[1]), []
    for sign, digits in _OPERATION.findall(read[2]):
        result = apply(value, sign, int(digits))
        steps.append(f"{value}{sign}{int(digits)}={result}")
        value = result
        if abs(value) >= 10**9:
            return None
    return steps
