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


def report_of(module, *arguments):
    command = [sys.executable, "-m", f"tests.parallel.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("subject", "kind"), ASKED)
def test_split_is_whole(subject, kind):
    """No case of `tests/parallel/<subject>_cases.py` differs from one device, or communicates what was not planned."""
    report = report_of(f"{subject}_cases", kind)
    assert {case: wrong for case, wrong in report.items() if wrong} == {}
    assert len(report) >= 4


@pytest.mark.slow
def test_keys_and_queries_travel_while_kernels_run():
    """In programs for TPU v5e 2x2: what a ring passes on is sent before a kernel starts and waited for after it."""
    pytest.importorskip("libtpu")
    report = report_of("split_tpu")
    assert report["gather"]["counts"] == {"all-gather": 2}  # outputs, and log-sum-exps
    # Of the two kernels of a ring one stands in its loop, and one works on the keys that came last.
    assert sorted(report["ring"]["in_flight"])[0] == 0
    assert sorted(report["ring"]["in_flight"])[1] >= 4
    assert len(report["bidirectional"]["in_flight"]) == 4
    assert min(report["bidirectional"]["in_flight"]) >= 1
    for form in ("ring", "bidirectional"):
        assert set(report[form]["counts"]) == {"collective-permute"}
