"""The conformance battery: what a decoder declares is what it is tested for.

    print(jaxdec.testing.check(lambda target, draft: my_decoder(target, draft)))

A check is a function of a `Subject`, a decoder with its runs over the rows of `CASES`; it raises a `Difference`.
"""

from jaxdec.testing.battery.capacity import check_cache, check_capacity
from jaxdec.testing.battery.cases import CASES, NEVER, OFF, VOCAB, Case, Kind, pair
from jaxdec.testing.battery.check import ALL, ENDS, LAW, LOOPS, PARTS, check
from jaxdec.testing.battery.declaration import check_compiled_once, check_declaration
from jaxdec.testing.battery.identity import (
    check_broken_model,
    check_identity,
    compare_with_twin,
    twin,
)
from jaxdec.testing.battery.law import FALSE_POSITIVE_RATE, check_law
from jaxdec.testing.battery.progress import check_bounded
from jaxdec.testing.battery.record import check_full_cache, check_record
from jaxdec.testing.battery.report import Difference, Outcome, Report
from jaxdec.testing.battery.rows import (
    check_alone,
    check_chunked,
    check_keys,
    check_neighbours,
    check_stream,
)
from jaxdec.testing.battery.runs import Row, Run, compare
from jaxdec.testing.battery.stops import check_early_ends, check_stops
from jaxdec.testing.battery.subject import Counted, Factory, Subject, built

__all__ = [
    "ALL",
    "CASES",
    "ENDS",
    "FALSE_POSITIVE_RATE",
    "LAW",
    "LOOPS",
    "NEVER",
    "OFF",
    "PARTS",
    "VOCAB",
    "Case",
    "Counted",
    "Difference",
    "Factory",
    "Kind",
    "Outcome",
    "Report",
    "Row",
    "Run",
    "Subject",
    "built",
    "check",
    "check_alone",
    "check_bounded",
    "check_broken_model",
    "check_cache",
    "check_capacity",
    "check_chunked",
    "check_compiled_once",
    "check_declaration",
    "check_early_ends",
    "check_full_cache",
    "check_identity",
    "check_keys",
    "check_law",
    "check_neighbours",
    "check_record",
    "check_stops",
    "check_stream",
    "compare",
    "compare_with_twin",
    "pair",
    "twin",
]
