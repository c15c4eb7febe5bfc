"""What a battery found: a line a check, and where the first difference is."""

import dataclasses
from typing import Any


class Difference(AssertionError):
    """A check that failed, and the first place at which it did.

    Attributes:
      what: what should have held.
      row: the name of the row, or None if no row is meant.
      position: in the row, in ranks for an order of generation; None if the whole row is meant.
      expected: what should be there.
      got: what is there.
    """

    def __init__(
        self,
        what: str,
        *,
        row: str | None = None,
        position: int | None = None,
        expected: Any = None,
        got: Any = None,
    ):
        self.what, self.row, self.position = what, row, position
        self.expected, self.got = expected, got
        place = "" if row is None else f", row {row!r}"
        place += "" if position is None else f", position {position}"
        values = "" if expected is None and got is None else f": expected {expected}, got {got}"
        super().__init__(f"{what}{place}{values}")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of one check.

    Attributes:
      name: of the check.
      what: the property, in a line.
      error: why it failed; None if it passed.
    """

    name: str
    what: str
    error: BaseException | None = None

    @property
    def passed(self) -> bool:
        """Whether the property holds."""
        return self.error is None


@dataclasses.dataclass(frozen=True)
class Report:
    """What was checked of a decoder, and what failed; prints as a table.

    Attributes:
      decoder: what it is, in a line.
      exactness: what it declares, in a word; what it declares instead if that is none.
      kind: what it was asked for.
      outcomes: one a check, in order.
    """

    decoder: str
    exactness: str
    kind: str
    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The checks that failed."""
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return not self.failures

    def __getitem__(self, name: str) -> Outcome:
        return next(outcome for outcome in self.outcomes if outcome.name == name)

    def __str__(self) -> str:
        count = f"{len(self.outcomes) - len(self.failures)} of {len(self.outcomes)} checks passed"
        lines = [f"{self.decoder}: {self.exactness}; {self.kind}; {count}"]
        width = max((len(outcome.name) for outcome in self.outcomes), default=0)
        for outcome in self.outcomes:
            verdict = "ok  " if outcome.passed else "FAIL"
            lines.append(f"  {verdict}  {outcome.name:{width}}  {outcome.what}")
            if outcome.error is not None:
                kind = type(outcome.error).__name__
                known = isinstance(outcome.error, AssertionError)
                text = str(outcome.error).strip().splitlines() or [kind]
                first = text[0] if known else f"{kind}: {text[0]}"
                lines.append(" " * (width + 10) + first)
        return "\n".join(lines)
