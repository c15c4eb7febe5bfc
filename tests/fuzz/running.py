"""Runs a surface over inputs that a seed chooses: all of them, counting what came of each."""

import collections
import dataclasses
import traceback
from typing import Any

import hypothesis

from tests.fuzz.surface import REFUSED, TAKEN, Surface

FIXED: dict[str, Any] = dict(
    database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
MISMATCH, TRACEBACK = "mismatch", "traceback"


@dataclasses.dataclass(frozen=True)
class Counts:
    """What came of some inputs.

    Attributes:
      refused: bad ones, by a `ValueError` that names what is wrong.
      taken: good ones, equal to what they are alone.
      mismatch: the law was broken: taken and should not be, or refused without a reason, or another result.
      traceback: any other exception.
      faults: the first of both kinds, as text.
    """

    refused: int
    taken: int
    mismatch: int
    traceback: int
    faults: list[str]


def counted(surface: Surface, seed: int, inputs: int, kept: int = 3) -> Counts:
    """Tries as many inputs of a surface as asked for, chosen by a seed, and goes on after a fault."""
    found: collections.Counter[str] = collections.Counter()
    faults: list[str] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=inputs, phases=[hypothesis.Phase.generate], **FIXED)
    @hypothesis.given(surface.inputs)
    def each(given):
        if sum(found.values()) == inputs:
            return
        try:
            what = surface.attempt(given)
        except Exception as error:
            what = MISMATCH if isinstance(error, AssertionError) else TRACEBACK
            if len(faults) < kept:
                last = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{last.name}, line {last.lineno}"
                faults.append(f"{type(error).__name__} in {place}: {error!s:.500}; {given!r:.1500}")
        found[what] += 1

    each()
    return Counts(found[REFUSED], found[TAKEN], found[MISMATCH], found[TRACEBACK], faults)
