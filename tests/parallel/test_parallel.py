"""Decoding with the rows split over devices gives, bit for bit, what one device gives."""

import pytest

from tests.parallel.processes import report_of

DRAFTERS = ("model", "prompt lookup")
VERIFIERS = ("walk", "token ratio", "block")
DECODERS = ("autoregressive", "denoise", *(f"{d}, {v}" for d in DRAFTERS for v in VERIFIERS))
CASES = (
    *(f"{name}; 8 rows, 8 devices" for name in DECODERS),
    "model, walk; 8 rows, 1 devices",
    "model, walk; 8 rows, 2 devices",
    "autoregressive; 5 rows, 8 devices",
    "model, block; 7 rows, 2 devices",
    "autoregressive; keys of the caller",
    *(f"{name}; 5 rows, 4 devices" for name in ("assd", "fused", "adaptive")),
    "hypotheses; 3 prompts, 2 devices",
    "plain; data 1, model 4, sequence 1",
    *(f"{name}; data 2, model 2, sequence 2" for name in ("plain", "tree", "canvas", "infill")),
    "roles",
    "highest of a split vocabulary",
    "weights lie split",
    "refusals",
    "chunked is whole",
    "rows lie on their devices",
    "state is donated",
    "knobs compile nothing",
    "rows that do not divide",
    "leaf without rows",
)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report():
    """What differs in each case; see `placed_cases.py`."""
    return report_of("placed_cases")


@pytest.mark.parametrize("case", CASES)
def test_case(report, case):
    assert report[case] == []


def test_every_case_is_checked(report):
    assert sorted(report) == sorted(CASES)
