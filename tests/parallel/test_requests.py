"""Requests over several devices: each group of devices is a lane of its own, and the tokens are those of one device."""

import pytest

from tests.parallel.processes import report_of

CASES = (
    "plain; data 4",
    "plain; data 2, model 2, sequence 2",
    "tree; data 2, model 2",
    "canvas; data 2",
    "infill; data 2, model 4",
    "refusals",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report():
    """What differs in each case; see `request_cases.py`."""
    return report_of("request_cases")


@pytest.mark.parametrize("case", CASES)
def test_case(report, case):
    assert report[case] == []


def test_every_case_is_checked(report):
    assert sorted(report) == sorted(CASES)
