"""The case of experts over devices, run small."""

import dataclasses

import pytest

from benchmarks import report
from benchmarks.cases import CASES, experts
from benchmarks.setting import QUICK, Setting
from jaxdec.training.corpus import python_sources

pytestmark = pytest.mark.slow


def test_rows_of_experts(monkeypatch):
    monkeypatch.setattr(experts, "DEVICES", (2,))
    setting = Setting(None, None, python_sources(), dataclasses.replace(QUICK), 1.0)
    rows = experts.run(setting)
    assert len(rows) == 3 + 2 * 6
    held = {(row["placement"], row["guess"]): row for row in rows}
    assert len(held) == len(rows)
    known, none = held["ExFlow", "known"], held["ExFlow", "none"]
    assert known["hits"] == known["right"] == 1
    # No guess moves less than knowing, and nothing moves more than being away for all experts.
    for (placement, _), row in held.items():
        if placement == "ExFlow":
            assert known["two"] <= row["two"] <= 2 * 4 * 256
    assert none["local"] > held["as numbered", "none"]["local"]
    assert none["one"] < none["two"] < none["all_reduce"]
    table = report.table(rows, CASES["experts"].columns)
    assert table.count("\n") == len(rows) + 2
