"""Experts over devices: see `expert_cases.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
    command = [sys.executable, "-m", "tests.parallel.expert_cases"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_case(report, case):
    assert report[case] == []


def test_every_case_is_checked(report):
    assert sorted(report) == sorted(CASES)
