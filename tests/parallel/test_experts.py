"""Experts over devices: see `expert_cases.py`."""

import pytest

from tests.parallel.processes import report_of

CASES = (
    "replicated, many",
    "replicated, few, none shared",
    "replicated, shared whole",
    "replicated, bfloat16",
    "replicated, experts that do not divide",
    "dispatch",
    "dispatch, a number that does not divide",
    "dispatch, bfloat16",
    "replicated, rows",
    "dispatch, rows",
    "any capacity and home",
    "one all-reduce",
    "all-to-alls",
    "decodes alike, replicated",
    "decodes alike, dispatch",
    "decodes alike, speculative",
    "decodes alike, three axes",
    "a trained mixture is placed",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report():
    """What is wrong in each case."""
    return report_of("expert_cases")


@pytest.mark.parametrize("case", CASES)
def test_case(report, case):
    assert report[case] == []


def test_every_case_is_checked(report):
    assert sorted(report) == sorted(CASES)
