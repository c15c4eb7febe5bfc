"""A decoder against a loop in Python that has no cache, no batch and no drafts."""

import functools
from typing import Any

import jax
import numpy as np

from jaxdec.decoding import Exactness, Status
from jaxdec.sampling import row_keys
from jaxdec.testing.battery.cases import CASES, RANKS, READ_LEFT, Case, Kind, broken, pair, places
from jaxdec.testing.battery.report import Difference
from jaxdec.testing.battery.runs import Row, compare_floats, compare_texts
from jaxdec.testing.battery.subject import Models, Subject
from jaxdec.testing.twin import TwinResult, python_twin


@functools.cache
def twin(
    case: Case,
    kind: Kind,
    finite: bool = True,
    models: Models = pair,
    end: int | None = None,
    fewest: int = 0,
    read_left: bool = True,
) -> TwinResult:
    """What plain decoding makes of a case, by a Python loop; a case that is overfull is decoded beyond any buffer.

    Args:
      case: the row.
      kind: what the decoder is asked for; by order if it fills gaps in one.
      finite: whether all laws of the model are.
      models: gives the models.
      end: the token that ends the row; None for none.
      fewest: the least new tokens before that.
      read_left: whether to heed the settings in `READ_LEFT`.
    """
    model, params = models()
    keys = row_keys(jax.random.key(7), len(CASES))
    size = RANKS if case.overfull else len(case.prompt) + case.budget
    return python_twin(
        model,
        params["target"] if finite else broken(params["target"]),
        list(case.prompt),
        keys[CASES.index(case)],
        max_new_tokens=size - len(case.prompt),
        places=places(case, size) if kind is Kind.ORDERS else None,
        width=RANKS,
        eos=() if end is None else (end,),
        **{**case.asked(read_left and kind is Kind.PROMPTS), "min_new_tokens": fewest},
    )


def twin_of(subject: Subject, case: Case, finite: bool = True, **ends: Any) -> TwinResult:
    """What plain decoding makes of a case, asked as a decoder is asked; `ends` are `end` and `fewest` of `twin`."""
    own = case.constraint is not None or not case.knobs.keys().isdisjoint(READ_LEFT)
    read_left = subject.read_left and own
    return twin(case, subject.kind, finite, subject.models, read_left=read_left, **ends)


def identical(subject: Subject) -> tuple[Case, ...]:
    """The cases in which the decoder promises the tokens of plain decoding."""
    if subject.exactness is Exactness.TOKEN_IDENTICAL:
        return CASES
    if subject.exactness is Exactness.DISTRIBUTION_IDENTICAL:
        return tuple(case for case in CASES if case.greedy)
    return ()


def compare_with_twin(expected: TwinResult, got: Row, what: str) -> None:
    """Raises a `Difference` unless a row is what the twin wrote; of an overfull one, as far as it goes."""
    tokens, status = expected.tokens, expected.status
    if got.case.overfull and got.length < len(tokens):
        tokens, status = tokens[: got.length], Status.CACHE_FULL
    compare_texts(tokens, status, got, what)
    start = len(got.case.prompt)
    for name in ("log_probs", "raw_log_probs"):
        values = [0.0] * start + getattr(expected, name)
        compare_floats(values, getattr(got, name), got, f"{what}: {name}", tolerance=1e-4)
    if got.length > start:
        _compare_top(np.stack(expected.raw_laws[: got.length - start]), got, what)


def _compare_top(laws: np.ndarray, got: Row, what: str) -> None:
    """Raises a `Difference` unless the most probable tokens of a row are those of some laws `[M, V]`."""
    new = slice(got.length - len(laws), got.length)
    tokens, log_probs = got.top_tokens[new], got.top_log_probs[new]
    wanted = -np.sort(-laws)[:, : tokens.shape[1]]
    found = np.take_along_axis(laws, tokens, axis=1)
    differ = (np.abs(log_probs - wanted) > 1e-4) | (np.abs(found - wanted) > 1e-4)
    for i in np.flatnonzero(differ.any(-1)):
        raise Difference(
            f"{what}: most probable tokens",
            row=got.case.name,
            position=int(i) + new.start,
            expected=wanted[i].tolist(),
            got=dict(zip(tokens[i].tolist(), log_probs[i].tolist(), strict=True)),
        )


def check_identity(subject: Subject) -> None:
    """Where plain decoding is promised, its tokens, log-probabilities and statuses: under all settings, good drafts and
    perfect ones."""
    for run, what in (
        (subject.free, "as plain decoding"),
        (subject.agreeing, "drafts by the target"),
    ):
        for case in identical(subject):
            compare_with_twin(twin_of(subject, case), run[case.name], what)


def check_broken_model(subject: Subject) -> None:
    """A row whose law is not finite ends with `NONFINITE` at that token, keeps what it had, and harms no other row."""
    run = subject.broken
    if not any(row.status is Status.NONFINITE for row in run.values()):
        raise Difference("no row met a law that is not finite")
    for case in identical(subject):
        expected = twin_of(subject, case, finite=False)
        compare_with_twin(expected, run[case.name], "a model some of whose laws are NaN")
