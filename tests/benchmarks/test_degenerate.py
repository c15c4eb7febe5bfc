"""Figures about degenerate text are printed nowhere."""

import numpy as np
import pytest

from benchmarks import canvases, charts, degenerate, documents, report
from benchmarks.cases import CASES
from benchmarks.columns import Row

TRUE = {"method": "true text", "about": "control", "exactness": None, "bits_per_byte": 1.0}
TRUE |= {"entropy": 4.0, "blanks": 0.3, "new_tokens": 8, "best": False}


def row(entropy: float | None = 4.0, blanks: float | None = 0.3, method: str = "threshold") -> Row:
    found = {
        "method": method,
        "about": "",
        "exactness": "heuristic",
        "temperature": 0.0,
        "block": 8,
    }
    found |= {"setting": "threshold 0.9", "tokens_per_forward": 7.77, "bits_per_byte": 2.0}
    found |= {"worse": 0.0, "less_varied": 0.0, "new_tokens": 8, "best": True}
    return {**found, "entropy": entropy, "blanks": blanks}


def result(*rows: Row):
    facts = dict.fromkeys(("device", "cpu", "jax", "commit", "date"), "x")
    machine = {**facts, "devices": 1, "cores": 1, "copy_bytes_per_second": 1.0}
    about = {"case": "diffusion", "about": "x", "quick": False, "models": {}, "machine": machine}
    return {**about, "rows": list(rows)}


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (row(), ""),
        (row(3.2, 0.44), ""),
        (row(3.2, 0.16), ""),
        (row(3.19), "too little entropy"),
        (row(float("nan")), "too little entropy"),
        (row(blanks=0.8), "too many blanks"),
        (row(blanks=0.1), "too few blanks"),
        (row(blanks=None), "blanks not measured"),
        (row(entropy=None), "entropy not measured"),
    ],
)
def test_a_row_is_held_against_the_true_text(found, fault):
    assert degenerate.fault(found, TRUE) == fault
    assert degenerate.sound([TRUE, found]) == ([TRUE] if fault else [TRUE, found])
    note = degenerate.withheld([found, TRUE])
    assert fault in note and bool(fault) == bool(note)
    assert degenerate.fault(found, None) == "no true text to compare with"


def test_blanks_are_counted():
    """The same judge that the cases have: of texts with known shares."""
    written = np.frombuffer(b"a b\tc\n\rde  f", np.uint8).reshape(2, 6)
    assert canvases._blanks(written) == 6 / 12
    assert canvases._blanks(np.frombuffer(b"\0\x0babc", np.uint8)[None]) == 0


@pytest.mark.parametrize("blanks", [0.3, 0.9])
def test_no_document_has_a_figure_of_degenerate_text(blanks, tmp_path):
    """The control: the same row is printed, quoted and drawn where its text is sound."""
    held = result(TRUE, row(blanks=blanks))
    page, small = report.section(held), documents.small_table([held])
    figures = documents.figures([held])
    path = tmp_path / "docs" / "images" / "diffusion.svg"
    path.parent.mkdir(parents=True)
    path.write_text("old")
    sound = blanks == 0.3
    assert bool(charts.write([held], tmp_path)) == path.exists() == sound
    assert ("7.77" in page) == ("7.77" in small) == ("diffusion.svg" in page) == sound
    assert ("threshold" in figures) == sound
    assert ("1 of 2 rows are withheld" in page) == (not sound)
    assert "too many blanks (1)" in page or sound


def test_cases_that_write_canvases_are_judged():
    for name in ("diffusion", "diffusion_cache"):
        assert CASES[name].writes
        assert "blanks" in [title for title, _ in CASES[name].columns]


def test_the_shipped_results_of_degenerate_text_are_withheld():
    """Canvases at temperature 0 were blanks; no page quotes them."""
    for held in report.load(report.RESULTS):
        case = CASES[held["case"]]
        if not case.writes:
            continue
        (control,) = [r for r in held["rows"] if r["method"] == "true text"] or [None]
        printed = case.sound(held["rows"])
        for found in printed:
            assert control is not None
            if found is control:
                continue
            assert found["entropy"] >= 0.8 * control["entropy"]
            assert abs(found["blanks"] - control["blanks"]) <= 0.5 * control["blanks"]
