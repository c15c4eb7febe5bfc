"""One call that tests a decoder by what it declares."""

from collections.abc import Callable, Sequence

from jaxdec.decoding import Exactness
from jaxdec.testing.battery.capacity import check_cache, check_capacity
from jaxdec.testing.battery.cases import pair
from jaxdec.testing.battery.declaration import check_compiled_once, check_declaration
from jaxdec.testing.battery.identity import check_broken_model, check_identity
from jaxdec.testing.battery.law import check_law
from jaxdec.testing.battery.progress import check_bounded
from jaxdec.testing.battery.record import check_full_cache, check_record
from jaxdec.testing.battery.report import Outcome, Report
from jaxdec.testing.battery.rows import (
    check_alone,
    check_chunked,
    check_keys,
    check_neighbours,
    check_stream,
)
from jaxdec.testing.battery.stops import check_early_ends, check_stops
from jaxdec.testing.battery.subject import Factory, Models, Subject

Check = Callable[[Subject], None]

PARTS: tuple[Check, ...] = (
    check_declaration,
    check_identity,
    check_record,
    check_neighbours,
    check_chunked,
    check_keys,
    check_broken_model,
    check_full_cache,
    check_capacity,
    check_cache,
    check_bounded,
    check_compiled_once,
)
"""What every part of a decoder can break; one program serves them all."""

ENDS: tuple[Check, ...] = (check_stops, check_early_ends)
"""What can be broken where a step's tokens are cut and rows end; by the same program, a run for each set of stops."""

LOOPS: tuple[Check, ...] = (check_stream, check_alone)
"""What a loop can break; each compiles a program of its own."""

LAW: tuple[Check, ...] = (check_law,)
"""What a part that draws can break; of a hundred thousand rows."""

ALL = PARTS + ENDS + LOOPS + LAW


IMPLIED_BY: dict[Check, tuple[Exactness, ...]] = {
    check_identity: (Exactness.TOKEN_IDENTICAL, Exactness.DISTRIBUTION_IDENTICAL),
    check_law: (Exactness.DISTRIBUTION_IDENTICAL,),
}
"""Checks of what only some declarations promise. Decoders with the tokens of plain decoding have its law as well."""


def implied(check: Check, subject: Subject) -> bool:
    """Whether the decoder's declaration promises what a check tests."""
    return check not in IMPLIED_BY or subject.exactness in IMPLIED_BY[check]


def name_of(check: Check) -> str:
    """The name of a check in a report."""
    return getattr(check, "__name__", str(check)).removeprefix("check_").replace("_", " ")


def check(
    make: Factory,
    *,
    orders: bool | None = None,
    models: Models = pair,
    checks: Sequence[Check] = ALL,
    read_left: bool = True,
    raise_: bool = True,
) -> Report:
    """Tests a decoder: what it declares is what it is tested for.

    The models are oracles (`jaxdec.testing.oracles`), for which results are equal bit for bit in any batch, so every
    comparison is an equality; the one statistical check states its false-positive rate.

    Args:
      make: `make(target, draft) -> Decoder`, called with two models that the battery supplies, the second of which
        resembles the first; or `-> (Decoder, params)` for a decoder with parts whose params the battery cannot supply.
      orders: whether it fills gaps in an order (`jaxdec.infill`) rather than continues prompts; found out if not given:
        a decoder that takes prompts is tested on prompts.
      models: gives other models than the battery's own, such as `oracles.recurrent_oracle`; see `Models`.
      checks: which properties; all that its declaration implies if not given.
      read_left: whether a decoder that continues prompts is asked for settings that read the tokens before each new
        one, `no_repeat_ngram`, `bad_words` and `constraint`; a fifth of its programs. False where its loop was tested
        with them.
      raise_: whether to raise if something fails.

    Returns:
      A `Report`, which prints as a table: what was checked, what failed and at which row and position first.

    Raises:
      AssertionError: if a check fails, with the report as its message.
    """
    subject = Subject(make, orders, models, read_left)
    outcomes = []
    for run in checks:
        if not implied(run, subject):
            continue
        what = " ".join((run.__doc__ or name_of(run)).split())
        try:
            run(subject)
        except Exception as error:
            outcomes.append(Outcome(name_of(run), what, error))
        else:
            outcomes.append(Outcome(name_of(run), what))
    declared = getattr(subject.exactness, "value", f"declares {subject.exactness}")
    report = Report(
        type(subject.decoder).__name__, str(declared), subject.kind.value, tuple(outcomes)
    )
    if raise_ and not report.passed:
        raise AssertionError(str(report)) from report.failures[0].error
    return report
