"""Sequences split over devices: attention, caches, states and prompts are those of one device."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUBJECTS = ("attention", "cache", "prompt")
SLOW = ("cache", "prompt")
ASKED = [
    *((s, "fast") for s in SUBJECTS),
    *(pytest.param(s, "slow", marks=pytest.mark.slow) for s in SLOW),
]


@pytest.mark.parametrize(("subject", "kind"), ASKED)
def test_split_is_whole(subject, kind):
    """No case of `tests/parallel/<subject>_cases.py` differs from one device, or communicates what was not planned."""
    command = [sys.executable, "-m", f"tests.parallel.{subject}_cases", kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert {case: wrong for case, wrong in report.items() if wrong} == {}
    assert len(report) >= 4
