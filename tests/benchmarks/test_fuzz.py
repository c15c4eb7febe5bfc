"""The long run of the fuzzed surfaces: it goes on where it was killed, and counts what it would have counted."""

import pytest
from hypothesis import strategies as st

from benchmarks.cases import CASES, fuzz
from tests.fuzz.surface import REFUSED, TAKEN, Surface
from tests.fuzz.surfaces import SURFACES


def surface(name, attempt):
    return Surface(name, "numbers", st.integers(0, 10**9), attempt, 1, 1, long=50, part=20)


def judged(number):
    assert number % 7, "divisible"
    return TAKEN if number % 2 else REFUSED


def without_clocks(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_run_that_was_killed_goes_on(tmp_path):
    tried = []

    def killed(number):
        tried.append(number)
        if len(tried) == 70:
            raise KeyboardInterrupt
        return judged(number)

    whole = fuzz.rows([surface("a", judged), surface("b", judged)], 1.0, tmp_path / "whole")
    done = tmp_path / "runs" / "parts.jsonl"
    with pytest.raises(KeyboardInterrupt):
        fuzz.rows([surface("a", killed), surface("b", killed)], 1.0, done)
    assert len(fuzz.finished(done)) == 3
    with done.open("a") as file:
        file.write('{"surface": "b", "seed"')  # killed while it wrote
    done.write_text(done.read_text() + "\n")
    found = fuzz.rows([surface("a", killed), surface("b", killed)], 1.0, done)
    assert without_clocks(found) == without_clocks(whole) and len(tried) <= 70 + 50
    a, b, every = found
    assert a["inputs"] == b["inputs"] == 50 and every["inputs"] == 100 and every["parts"] == 6
    assert 0 < a["mismatch"] < 25 and a["traceback"] == 0 and "divisible" in a["faults"][0]


def test_a_hundred_thousand_inputs():
    assert sum(held.long for held in SURFACES.values()) == 100_000
    assert CASES["fuzz"].models is None and fuzz.code() == fuzz.code()
