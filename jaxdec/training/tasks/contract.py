"""What a task is: problems with written steps, and a checker that reads text alone.

A problem is a prompt, one line, and a solution, one step a line. Whoever judges a solution (accuracy, voting, reward
and value heads) sees the two texts and nothing else. Nothing here raises for a text that a model might write.

A problem is held out iff the hash of its canonical form says so: no order of the draws, and no seed, moves it across
the split.
"""

import abc
import hashlib
from typing import ClassVar, NamedTuple

import numpy as np

DELIMITER = "\n"
"""What ends the prompt and every step."""


class Problem(NamedTuple):
    """One problem.

    Attributes:
      prompt: one line, with its `DELIMITER`.
      solution: one step a line, each with its `DELIMITER`; a correct one.
    """

    prompt: str
    solution: str


class Task(abc.ABC):
    """One kind of problem. Subclasses are frozen dataclasses that say how hard they are; all methods are pure.

    Attributes:
      name: of the task.
      letter: the first of every prompt, so that one model tells the tasks apart.
    """

    name: ClassVar[str]
    letter: ClassVar[str]

    @property
    @abc.abstractmethod
    def longest(self) -> int:
        """Bytes of a drawn solution at most."""

    @abc.abstractmethod
    def draw(self, generator: np.random.Generator) -> Problem:
        """A random problem with a correct solution."""

    def key(self, prompt: str) -> str:
        """The canonical form of a problem: prompts that only differ in how they are written have the same one."""
        return prompt

    @abc.abstractmethod
    def check(self, prompt: str, solution: str) -> bool:
        """Whether a text solves the problem, every step of it correct."""

    @abc.abstractmethod
    def answer(self, prompt: str, solution: str) -> str | None:
        """What solutions are counted as the same by, as in a vote; None where the text gives no answer."""

    @abc.abstractmethod
    def sound(self, prompt: str, steps: str) -> bool:
        """Whether whole steps, the first ones of a solution, can still be completed to one that `check` accepts."""

    def parallel_limit(self, prompt: str, forwards: int) -> float | None:
        """How often a perfect model is right that draws the tokens of each forward independently, at temperature 1.

        Args:
          prompt: of a problem.
          forwards: T; the best way to write the solution in T groups of positions that are fixed beforehand counts.

        Returns:
          1 if only one solution is ever drawn; None where nobody has worked it out.
        """
        return None


def split_steps(solution: str) -> list[str] | None:
    """The steps of a text without their delimiters; None if the last one is not finished."""
    *steps, rest = solution.split(DELIMITER)
    return None if rest else steps


def is_held_out(task: Task, prompt: str, fraction: float) -> bool:
    """Whether a problem is held out: the hash of its canonical form, as a number in [0, 1), lies below `fraction`."""
    digest = hashlib.sha256(f"{task.name}\0{task.key(prompt)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < fraction


def draw_from(
    task: Task, generator: np.random.Generator, *, held_out: bool, fraction: float
) -> Problem:
    """A random problem of one side of the split."""
    while True:
        problem = task.draw(generator)
        if is_held_out(task, problem.prompt, fraction) == held_out:
            return problem


def problems(
    task: Task, count: int, *, seed: int = 0, held_out: bool = True, fraction: float = 0.05
) -> list[Problem]:
    """Problems of one side of the split; problem i depends on `(seed, i)` alone.

    Args:
      task: their kind.
      count: how many, at least 0.
      seed: of the draws, at least 0.
      held_out: whether they are those that are never trained on.
      fraction: of all problems that is held out, in (0, 1).

    Raises:
      ValueError: for a fraction outside (0, 1), or a negative count or seed.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    for name, value in (("count", count), ("seed", seed)):
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value}")
    generators = (np.random.default_rng((seed, int(held_out), i)) for i in range(count))
    return [draw_from(task, one, held_out=held_out, fraction=fraction) for one in generators]
