"""Counts of two results are compared to the last digit; clocks are not."""

import copy
import json

import pytest

from benchmarks import report
from benchmarks.__main__ import main
from benchmarks.cases import CASES
from benchmarks.compare import differences, timed

RESULTS = {result["case"]: result for result in report.load(report.RESULTS)}


def changed(case, row, **values):
    result = copy.deepcopy(RESULTS[case])
    result["rows"][row] |= values
    return result


@pytest.mark.parametrize("case", RESULTS)
def test_labels_tell_rows_apart(case):
    keys = [tuple(row.get(name) for name in CASES[case].labels) for row in RESULTS[case]["rows"]]
    assert len(set(keys)) == len(keys)
    assert differences(RESULTS[case], RESULTS[case]) == []


@pytest.mark.parametrize("case", RESULTS)
def test_every_count_is_seen_and_no_clock(case):
    """Each value of the last row is changed by itself."""
    row = RESULTS[case]["rows"][-1]
    if row.get("method") in CASES[case].by_clock:
        return
    unseen = {
        name
        for name, value in row.items()
        if not differences(RESULTS[case], changed(case, -1, **{name: f"not {value}"}))
    }
    assert {name for name in row if timed(name)} <= unseen
    counts = {"tokens", "tokens_per_forward", "target_forwards", "acceptance", "identical"}
    counts |= {"forwards_per_token", "acceptance_by_depth", "verdicts", "moved_bytes"}
    assert not unseen & counts
    assert all(timed(name) or name in ("about", "bar", "network", "repeats") for name in unseen)


def test_the_line_says_what_and_where():
    old = RESULTS["tokens_per_forward"]
    tokens = old["rows"][1]["tokens_per_forward"]
    new = changed("tokens_per_forward", 1, tokens_per_forward=tokens * (1 + 1e-12))
    (line,) = differences(old, new)
    assert line == f"0.0, prompt lookup 8: tokens_per_forward: {tokens} -> {tokens * (1 + 1e-12)}"
    assert differences(old, new, within=1e-9) == []
    assert differences(old, changed("tokens_per_forward", 1, tokens=1), within=1e-9)


def test_rows_and_settings():
    old = RESULTS["pair"]
    new = copy.deepcopy(old)
    del new["rows"][2]
    new["rows"].append({**old["rows"][0], "method": "new"})
    new["scale"] |= {"tokens": 3, "unheard of": 1}
    new["corpus"]["fingerprint"] = "other"
    new["rows"][0]["new"] = 1
    del new["rows"][1]["tokens"]
    assert differences(old, new) == [
        f"corpus: fingerprint: {old['corpus']['fingerprint']} -> other",
        "scale: tokens: 128 -> 3",
        "1, 0.0, draft 4: tokens: no longer there",
        "1, 0.0, draft 6: no longer there",
    ]


def test_methods_that_the_clock_chooses_are_left_out():
    old = RESULTS["grown"]
    (row, *_) = [i for i, row in enumerate(old["rows"]) if row["method"] == "auto"]
    assert differences(old, changed("grown", row, tokens_per_forward=9.0)) == []
    assert differences(old, changed("grown", row - 1, tokens_per_forward=9.0))


def test_the_command(tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("old.json", "new.json", "other.json")]
    held = [RESULTS["pair"], changed("pair", 0, tokens=7), RESULTS["grown"]]
    for path, result in zip(paths, held, strict=True):
        with open(path, "w") as file:
            json.dump(result, file)
    old, new, other = paths
    assert main(["compare", old, old]) == 0
    assert capsys.readouterr().out == ""
    assert main(["compare", old, new]) == 1
    assert capsys.readouterr().out == "1, 0.0, plain: tokens: 512 -> 7\n"
    for arguments, message in (
        ([old, other], "results of different cases: pair and grown"),
        ([old, str(tmp_path / "none.json")], "none.json is not a benchmark result"),
    ):
        assert main(["compare", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
