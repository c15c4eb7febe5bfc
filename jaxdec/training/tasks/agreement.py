"""Sentences whose subject is free, and whose other words must agree with it, in one step.

    Tfeed dog        she feeds her dog | they feed their dog | ...        six subjects, verb and owner by them

The first letter of a sentence says all that is open. Whoever draws more than that at once mixes sentences.

Source: the tasks on text of ParallelBench 2510.04767, with templates of our own in place of a grammar checker.
"""

import dataclasses
import functools
import re
from typing import ClassVar

import numpy as np

from jaxdec.training.tasks.contract import DELIMITER, Problem, Task
from jaxdec.training.tasks.limits import in_groups

SUBJECTS = {
    "she": ("s", "her"),
    "he": ("s", "his"),
    "they": ("", "their"),
    "we": ("", "our"),
    "i": ("", "my"),
    "you": ("", "your"),
}
"""What each subject does to the verb, and whose things are its own."""
VERBS = (
    "call", "clean", "count", "cover", "draw", "fear", "feed", "find", "follow", "hear", "heat", "help", "hide",
    "hold", "keep", "know", "lead", "like", "lose", "love", "mark", "move", "name", "need", "paint", "pull",
    "read", "sell", "show", "take", "want",
)  # fmt: skip
NOUNS = (
    "aunt", "bag", "ball", "bird", "boat", "bread", "car", "cat", "chair", "coat", "cow", "cup", "dog", "door",
    "farm", "fish", "garden", "hat", "horse", "house", "lamp", "letter", "map", "money", "plan", "road", "room",
    "shirt", "table", "tent", "tree", "uncle",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Agreement(Task):
    """Sentences about what somebody does with something of their own, given the verb and the thing."""

    name: ClassVar[str] = "agreement"
    letter: ClassVar[str] = "T"

    @property
    def longest(self) -> int:
        """They, with the longest words."""
        return max(len(one) for one in _sentences(max(VERBS, key=len), max(NOUNS, key=len)))

    def draw(self, generator: np.random.Generator) -> Problem:
        """Random words; all subjects are equally likely."""
        verb, noun = (words[int(generator.integers(len(words)))] for words in (VERBS, NOUNS))
        found = _sentences(verb, noun)
        prompt = f"{self.letter}{verb} {noun}{DELIMITER}"
        return Problem(prompt, found[int(generator.integers(len(found)))])

    def solutions(self, prompt: str) -> list[str]:
        """The sentences of all subjects; none for another prompt."""
        read = re.fullmatch(f"{self.letter}([a-z]+) ([a-z]+){DELIMITER}", prompt)
        known = read is not None and read[1] in VERBS and read[2] in NOUNS
        return _sentences(read[1], read[2]) if read is not None and known else []

    def check(self, prompt: str, solution: str) -> bool:
        """Whether a text is one of the sentences."""
        return solution in self.solutions(prompt)

    def answer(self, prompt: str, solution: str) -> str | None:
        """The sentence; None if it does not end, or goes on."""
        read = re.fullmatch(f"([a-z ]*){DELIMITER}", solution)
        return read[1] if read else None

    def sound(self, prompt: str, steps: str) -> bool:
        """Whether nothing is written, or all is right."""
        found = self.solutions(prompt)
        return bool(found) and (not steps or steps in found)

    def parallel_limit(self, prompt: str, forwards: int) -> float | None:
        """All at once, by enumeration; 1 for two forwards or more, of which the first writes the first letter."""
        found = self.solutions(prompt)
        if not found:
            return None
        return 1.0 if forwards > 1 else _at_once(tuple(found))


def _sentences(verb: str, noun: str) -> list[str]:
    """By subject."""
    return [
        f"{subject} {verb}{ending} {own} {noun}{DELIMITER}"
        for subject, (ending, own) in SUBJECTS.items()
    ]


@functools.lru_cache(10_000)
def _at_once(solutions: tuple[str, ...]) -> float:
    """What comes behind a sentence is EOS, as on the canvas."""
    width = max(map(len, solutions))
    padded = [one.ljust(width, "\0") for one in solutions]
    return in_groups(padded, [range(width)])
