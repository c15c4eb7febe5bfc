"""Rows of a run on the host, and how two of them are compared."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from jaxdec import generation
from jaxdec.decoding import Stats, Status
from jaxdec.testing.battery.cases import Case
from jaxdec.testing.battery.report import Difference

COUNTS = tuple(field.name for field in dataclasses.fields(Stats))


@dataclasses.dataclass(frozen=True)
class Row:
    """What a run made of a case, on the host.

    Attributes:
      case: what was asked for.
      tokens: int `[L]`, the whole buffer.
      length: tokens of it that are the row's, its prompt's included.
      status: why it ended.
      log_probs: float `[L]`; this and the following as in `Result`.
      raw_log_probs: float `[L]`.
      drafted: bool `[L]`.
      steps: int `[L]`.
      top_tokens: int `[L, K]`.
      top_log_probs: float `[L, K]`.
      counts: by name of `Stats`.
    """

    case: Case
    tokens: np.ndarray
    length: int
    status: Status
    log_probs: np.ndarray
    raw_log_probs: np.ndarray
    drafted: np.ndarray
    steps: np.ndarray
    top_tokens: np.ndarray
    top_log_probs: np.ndarray
    counts: dict[str, int]

    @property
    def text(self) -> list[int]:
        """Prompt and new tokens."""
        return self.tokens[: self.length].tolist()

    @property
    def new(self) -> list[int]:
        """New tokens."""
        return self.text[len(self.case.prompt) :]


Run = dict[str, Row]
"""Rows by the names of their cases."""


def rows_of(result: generation.Result, cases: Sequence[Case]) -> Run:
    """The rows of a batch."""
    host = jax.device_get(result)
    per_row = ("tokens", "log_probs", "raw_log_probs", "drafted", "steps")
    return {
        case.name: Row(
            case=case,
            length=int(host.lengths[i]),
            status=Status(int(host.codes[i])),
            counts={name: int(getattr(host.stats, name)[i]) for name in COUNTS},
            top_tokens=host.top.tokens[i],
            top_log_probs=host.top.log_probs[i],
            **{name: getattr(host, name)[i] for name in per_row},
        )
        for i, case in enumerate(cases)
    }


def compare(
    expected: Row, got: Row, what: str, counts: Sequence[str] = COUNTS, *, steps: bool = True
) -> None:
    """Raises a `Difference` unless two rows have the same tokens, statuses, log-probabilities, steps and counts.

    With `steps=False` the tokens may have been found in other steps.
    """
    compare_texts(expected.text, expected.status, got, what)
    name = got.case.name
    for field in ("log_probs", "raw_log_probs"):
        compare_floats(getattr(expected, field), getattr(got, field), got, f"{what}: {field}")
    for field in ("steps", "drafted") if steps else ():
        one, two = getattr(expected, field), getattr(got, field)
        for i in range(got.length):
            if one[i] != two[i]:
                raise Difference(
                    f"{what}: {field}", row=name, position=i, expected=one[i], got=two[i]
                )
    differ = (expected.top_tokens != got.top_tokens).any(-1)
    near = np.isclose(expected.top_log_probs, got.top_log_probs, rtol=0, atol=1e-5, equal_nan=True)
    differ |= ~near.all(-1)
    for place in np.flatnonzero(differ[: got.length]).tolist():
        one, two = expected.top_log_probs[place], got.top_log_probs[place]
        raise Difference(
            f"{what}: most probable tokens", row=name, position=place, expected=one, got=two
        )
    for field in counts if steps else ():
        wanted, found = expected.counts[field], got.counts[field]
        if wanted != found:
            raise Difference(f"{what}: {field}", row=name, expected=wanted, got=found)


def compare_texts(expected: list[int], status: Status, got: Row, what: str) -> None:
    """Raises a `Difference` unless a row has the tokens and the status that are expected."""
    name = got.case.name
    for i, (one, two) in enumerate(zip(expected, got.text, strict=False)):
        if one != two:
            raise Difference(what, row=name, position=i, expected=one, got=two)
    if len(expected) != got.length:
        raise Difference(f"{what}: length", row=name, expected=len(expected), got=got.length)
    if status is not got.status:
        raise Difference(f"{what}: status", row=name, expected=status.name, got=got.status.name)


def compare_floats(
    expected: np.ndarray, got: np.ndarray, row: Row, what: str, tolerance: float = 1e-5
) -> None:
    """Raises a `Difference` unless values agree over the row's tokens."""
    close = np.isclose(expected[: row.length], got[: row.length], rtol=tolerance, atol=tolerance)
    for i in np.flatnonzero(~close):
        raise Difference(what, row=row.case.name, position=int(i), expected=expected[i], got=got[i])
