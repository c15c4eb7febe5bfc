"""Sequences split over devices: attention, caches, states and prompts are those of one device."""

import pytest

from tests.parallel.processes import needs_tpu_compiler, report_of


@pytest.mark.parametrize("kind", ["fast", pytest.param("slow", marks=pytest.mark.slow)])
def test_split_is_whole(kind):
    """No case differs from one device, or communicates what was not planned: see `sequence_cases.py`."""
    report = report_of("sequence_cases", kind)
    assert {case: wrong for case, wrong in report.items() if wrong} == {}
    assert len(report) >= 12


@pytest.mark.slow
@needs_tpu_compiler
def test_keys_and_queries_travel_while_kernels_run():
    """In programs for TPU v5e 2x2: what a ring passes on is sent before a kernel starts and waited for after it."""
    report = report_of("split_tpu")
    assert report["gather"]["counts"] == {"all-gather": 2}  # outputs, and log-sum-exps
    # Of the two kernels of a ring one stands in its loop, and one works on the keys that came last.
    assert sorted(report["ring"]["in_flight"])[0] == 0
    assert sorted(report["ring"]["in_flight"])[1] >= 4
    assert len(report["bidirectional"]["in_flight"]) == 4
    assert min(report["bidirectional"]["in_flight"]) >= 1
    for form in ("ring", "bidirectional"):
        assert set(report[form]["counts"]) == {"collective-permute"}
