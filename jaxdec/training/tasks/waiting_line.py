"""A waiting line: it is written down again as it is told to be, in one step.

    copy      Kbqdk      bqdk          sort      Obqdk      bdkq
    reverse   Rbqdk      kdqb          shuffle   Hbqdk      any order of the four
    insert    Ibqdk+x    x at any of five places         replace   Pbqdk+x    x for any of the four

Names are letters, one byte each, so that what is known of decoding them in parallel is exact: nothing of it depends on
how a name is cut into tokens. The first three have one solution. Of the others all solutions are equally likely, and
their tokens depend on one another: whoever draws several at once is wrong with a probability that no model removes.

Source: ParallelBench 2510.04767; the limits of several tokens a forward are worked out here. There a shuffled line must
differ from the one that was given; here it need not, so that all orders are equally likely.

Legend: n names of a line, T forwards.
"""

import abc
import dataclasses
import functools
import itertools
import math
import re
import string
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jaxdec.training.tasks.contract import DELIMITER, Problem, Task
from jaxdec.training.tasks.limits import compositions


@dataclasses.dataclass(frozen=True)
class WaitingLine(Task, abc.ABC):
    """Lines of different names, and in some tasks one who comes.

    Attributes:
      people: the fewest and the most names of a line.
    """

    people: tuple[int, int] = (4, 6)
    comes: ClassVar[bool] = False
    """Whether somebody comes who does not wait yet."""

    def __post_init__(self):
        low, high = self.people
        if not 2 <= low <= high <= 9:
            raise ValueError(f"people must lie in [2, 9] and in order, got {low} and {high}")

    @abc.abstractmethod
    def lines(self, line: str, who: str) -> list[str]:
        """The lines that are right, each once.

        Args:
          line: as it is.
          who: comes; empty where nobody does.
        """

    @property
    def longest(self) -> int:
        """A line."""
        return self.people[1] + 1

    def draw(self, generator: np.random.Generator) -> Problem:
        """Random names in random order; all solutions are equally likely."""
        count = int(generator.integers(self.people[0], self.people[1] + 1))
        names = "".join(generator.permutation([*string.ascii_lowercase])[: count + self.comes])
        line, who = names[:count], names[count:]
        prompt = f"{self.letter}{line}{'+' if who else ''}{who}{DELIMITER}"
        return Problem(prompt, self.drawn(line, who, generator) + DELIMITER)

    def drawn(self, line: str, who: str, generator: np.random.Generator) -> str:
        """One of `lines`, all equally likely."""
        found = self.lines(line, who)
        return found[int(generator.integers(len(found)))]

    def solutions(self, prompt: str) -> list[str]:
        """All that are right; none for another prompt."""
        read = self.read(prompt)
        return [] if read is None else [line + DELIMITER for line in self.lines(*read)]

    def read(self, prompt: str) -> tuple[str, str] | None:
        """The line of a prompt and who comes; None if it is none."""
        who = "[+]([a-z])" if self.comes else "()"
        found = re.fullmatch(f"{self.letter}([a-z]{{2,9}}){who}{DELIMITER}", prompt)
        if found is None or len({*found[1], *found[2]}) < len(found[1] + found[2]):
            return None
        return found[1], found[2]

    def check(self, prompt: str, solution: str) -> bool:
        """Whether a text is one of the lines that are right."""
        read = self.read(prompt)
        return read is not None and self.right(*read, solution)

    def right(self, line: str, who: str, solution: str) -> bool:
        """`check` for a prompt that has been read."""
        return solution in {right + DELIMITER for right in self.lines(line, who)}

    def answer(self, prompt: str, solution: str) -> str | None:
        """The line; None if it does not end, or goes on."""
        read = re.fullmatch(f"([a-z]*){DELIMITER}", solution)
        return read[1] if read else None

    def sound(self, prompt: str, steps: str) -> bool:
        """Whether nothing is written, or all is right."""
        return (
            not steps if self.read(prompt) is not None and not steps else self.check(prompt, steps)
        )

    def parallel_limit(self, prompt: str, forwards: int) -> float | None:
        """1 for one solution; None for another prompt."""
        read = self.read(prompt)
        return None if read is None else self.at_best(len(read[0]), forwards)

    def at_best(self, people: int, forwards: int) -> float:
        """`parallel_limit` for n names."""
        return 1.0


class Copy(WaitingLine):
    """The line as it is."""

    name: ClassVar[str] = "copy"
    letter: ClassVar[str] = "K"

    def lines(self, line: str, who: str) -> list[str]:
        """One."""
        return [line]


class Reverse(WaitingLine):
    """The last one first."""

    name: ClassVar[str] = "reverse"
    letter: ClassVar[str] = "R"

    def lines(self, line: str, who: str) -> list[str]:
        """One."""
        return [line[::-1]]


class Sort(WaitingLine):
    """By the alphabet."""

    name: ClassVar[str] = "sort"
    letter: ClassVar[str] = "O"

    def lines(self, line: str, who: str) -> list[str]:
        """One."""
        return ["".join(sorted(line))]


class Shuffle(WaitingLine):
    """Any order, the one that was given among them."""

    name: ClassVar[str] = "shuffle"
    letter: ClassVar[str] = "H"

    def lines(self, line: str, who: str) -> list[str]:
        """All `n!`."""
        return ["".join(order) for order in itertools.permutations(line)]

    def drawn(self, line: str, who: str, generator: np.random.Generator) -> str:
        """A random order."""
        return "".join(generator.permutation([*line]))

    def right(self, line: str, who: str, solution: str) -> bool:
        """Whether the same wait, and nobody else."""
        return solution[-1:] == DELIMITER and sorted(solution[:-1]) == sorted(line)

    def at_best(self, people: int, forwards: int) -> float:
        """Over all groups, `prod r! / ((r - k)! r^k)`: k names at once, r still to be written; `n! / n^n` for all."""
        return _shuffled(people, forwards)


class Insert(WaitingLine):
    """Somebody comes, and stands anywhere."""

    name: ClassVar[str] = "insert"
    letter: ClassVar[str] = "I"
    comes: ClassVar[bool] = True

    @property
    def longest(self) -> int:
        """A line, and the one who comes."""
        return super().longest + 1

    def lines(self, line: str, who: str) -> list[str]:
        """One for each of `n + 1` places."""
        return [line[:place] + who + line[place:] for place in range(len(line) + 1)]

    def at_best(self, people: int, forwards: int) -> float:
        """Over all groups; all at once, `sum_j prod_{i<j} (n - i) / (n + 1) / (n + 1) prod_{i>j} i / (n + 1)`."""
        return _inserted(people + 1, forwards)


class Replace(WaitingLine):
    """Somebody comes, and takes the place of anyone."""

    name: ClassVar[str] = "replace"
    letter: ClassVar[str] = "P"
    comes: ClassVar[bool] = True

    def lines(self, line: str, who: str) -> list[str]:
        """One for each of n places."""
        return [line[:place] + who + line[place + 1 :] for place in range(len(line))]

    def at_best(self, people: int, forwards: int) -> float:
        """Over all groups, `S(r) = k / r (1 - 1 / r)^(k - 1) + (1 - 1 / r)^k S(r - k)`; `(1 - 1 / n)^(n - 1)` for all.

        k of the r names that are left are drawn at once; nobody has been replaced as yet.
        """
        return _replaced(people, forwards)


@functools.cache
def _shuffled(people: int, forwards: int) -> float:
    def chance(groups: tuple[int, ...]) -> float:
        left, found = people, 1.0
        for k in groups:
            found *= math.perm(left, k) / left**k
            left -= k
        return found

    return max(map(chance, compositions(people, forwards)))


@functools.cache
def _replaced(people: int, forwards: int) -> float:
    def chance(groups: tuple[int, ...], left: int) -> float:
        if not groups:
            return 0.0
        k, stays = groups[0], 1 - 1 / left
        return k / left * stays ** (k - 1) + stays**k * chance(groups[1:], left - k)

    return max(chance(groups, people) for groups in compositions(people, forwards))


@functools.cache
def _inserted(places: int, forwards: int) -> float:
    """Over all sets of places that are written first: each says that the one who comes stands there, or on which side.

    Between two that were written, and that agree, lie fewer places, for which the same question is asked again.
    """
    if forwards == 0 or places == 0:
        return 0.0
    every = range(places)
    sets = (
        [every]
        if forwards == 1
        else [s for k in every for s in itertools.combinations(every, k + 1)]
    )

    def chance(chosen: Sequence[int]) -> float:
        before = lambda j: math.prod((places - 1 - i) / places for i in chosen if i < j)
        after = lambda j: math.prod(i / places for i in chosen if i > j)
        here = sum(before(j) * after(j) for j in chosen) / places
        edges = itertools.pairwise((-1, *chosen, places))
        # A place that is not chosen stands for all between two that are.
        return here + sum(
            before(a + 0.5) * after(a + 0.5) * _inserted(b - a - 1, forwards - 1) for a, b in edges
        )

    return 1.0 if places == 1 else max(map(chance, sets))
