"""Sequences split over devices: attention, caches, states and prompts are those of one device."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = {
    "attention": (
        *(f"{form}, {queries} queries" for form in ("gather", "ring", "bidirectional")
          for queries in ("whole", "shared")),
        "gather, one query",
        "bidirectional, one query",
        "refused",
    ),
}  # fmt: skip


@functools.cache
def report(subject):
    """What differs in each case; see `tests/parallel/<subject>_cases.py`."""
    command = [sys.executable, "-m", f"tests.parallel.{subject}_cases"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("subject", "case"), [(subject, case) for subject in CASES for case in CASES[subject]]
)
def test_case(subject, case):
    assert report(subject)[case] == []


@pytest.mark.parametrize("subject", CASES)
def test_every_case_is_checked(subject):
    assert sorted(report(subject)) == sorted(CASES[subject])
