"""What a mutant is, and the table of all of them."""

import dataclasses
import importlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAMILIES = (
    "decoding",
    "sampling",
    "visibility",
    "caches",
    "models",
    "autoregressive",
    "speculative",
    "verifiers",
    "drafters",
    "any_subset",
    "canvas",
    "policies",
)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A seeded fault.

    Attributes:
      name: unique.
      file: that it is in, relative to the repository.
      old: a snippet that stands in the file exactly once.
      new: what takes its place.
      means: what goes wrong.
      equivalent: why no output can tell it from the original; empty for a real fault.
      family: whose checks must catch it.
    """

    name: str
    file: str
    old: str
    new: str
    means: str
    equivalent: str = ""
    family: str = ""

    def source(self) -> str:
        """The text of the file with the fault.

        Raises:
          ValueError: unless the snippet occurs exactly once.
        """
        text = (ROOT / self.file).read_text()
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands in {self.file} {count} times")
        return text.replace(self.old, self.new)


def mutants(family: str) -> list[Mutant]:
    """The mutants of a family."""
    table = importlib.import_module(f"tests.mutants.{family}").MUTANTS
    return [dataclasses.replace(mutant, family=family) for mutant in table]


def everything() -> list[Mutant]:
    """All mutants, family by family."""
    return [mutant for family in FAMILIES for mutant in mutants(family)]
