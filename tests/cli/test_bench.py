"""`bench`: one run, one table, one file of numbers, one chart."""

import json

import pytest

from jaxdec import catalogue
from jaxdec.cli import loading
from jaxdec.cli.bench import chosen_draft, read_prompts

LINES = b"def add(a, b):\n\nimport os, sys\nx = 1\n"


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(LINES)
    return path


def bench(jaxdec, pair, prompts, methods, *argv):
    words = ["--methods", methods, "--prompts", prompts, "--max-new-tokens", 12, "--repeats", 2]
    return jaxdec("bench", *words, *pair, *argv)


def test_one_run_gives_a_table_numbers_and_a_chart(jaxdec, models, pair, prompts, tmp_path):
    chart, numbers = tmp_path / "bench.svg", tmp_path / "bench.json"
    sizes = ["--nodes", 4, "--draft-length", 2]
    files = ["--json", numbers, "--chart", chart]
    methods = "lookup,sequoia-recursive,draft"
    code, out, err = bench(jaxdec, pair, prompts, methods, *sizes, *files)
    assert code == 0, err
    names = ["autoregressive", *methods.split(",")]
    assert err.splitlines() == [f"compiling {m} ({i} of 4)" for i, m in enumerate(names, 1)]
    held = json.loads(numbers.read_text())
    assert set(held["machine"]) >= {"device", "commit", "jaxdec", "jax", "numpy", "python"}
    assert held["target"]["name"] == "target"
    assert [draft["name"] for draft in held["drafts"]] == ["draft"]
    assert [row["draft"] for row in held["rows"]] == [None, None, *[str(models / "draft")] * 2]
    assert (held["prompts"], held["prompt_tokens"], held["batch"]) == (3, 14 + 14 + 5, 1)
    rows = {row["method"]: row for row in held["rows"]}
    assert list(rows) == ["autoregressive", "lookup", "sequoia-recursive", "draft"]
    for name, row in rows.items():
        assert row["tokens"] == 3 * 12
        assert row["tokens_per_forward"] == 36 / row["target_forwards"]
        accepted = row["accepted_by_depth"]
        assert accepted[0] == row["target_forwards"] and accepted == sorted(accepted, reverse=True)
        # All drafts that were kept, and a token of the target's own in all steps but those cut at the end of a row.
        assert 36 - accepted[0] <= sum(accepted[1:]) <= 36 - accepted[0] + 3
        low, high = row["times_plain_quartiles"]
        assert 0 < low <= row["times_plain"] <= high
        if row["exactness"] == "token-identical":
            assert row["identical"] == 1
        line = next(line for line in out.splitlines() if line.split()[:1] == [name])
        assert f"{row['tokens_per_forward']:.2f}" in line and f"{row['times_plain']:.2f}" in line
    assert rows["draft"]["proposed"] == 2 * rows["draft"]["target_forwards"]
    assert rows["sequoia-recursive"]["proposed"] > rows["draft"]["proposed"] / 2
    assert rows["autoregressive"]["times_plain"] == 1
    drawn = chart.read_text()
    assert "</svg>" in drawn
    assert all(f"<!-- {name} -->" in drawn for name in rows), "matplotlib names its texts"


def test_a_named_draft_is_for_methods_of_its_kind(models):
    named = str(models / "draft")
    chosen = [
        chosen_draft(catalogue.METHODS[name], named, loading.load_draft)
        for name in ("lookup", "draft-token", "diffuspec", "medusa-recursive")
    ]
    assert chosen == [None, named, "code-block", "code-medusa"]
    assert chosen_draft(catalogue.METHODS["draft"], None, loading.load_draft) == "code-draft"


def test_fields_of_json_lines(tmp_path):
    path = tmp_path / "questions.jsonl"
    lines = [{"turns": ["first", "second"]}, {"prompt": "é", "text": "b"}, {"question": "why?"}]
    path.write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    assert read_prompts(str(path)) == [b"first", "é".encode(), b"why?"]
    path.write_bytes(b"1\r\n\xff{}\n")
    assert read_prompts(str(path)) == [b"1", b"\xff{}"]


BAD = {
    "no such method": ("draft,magic", LINES, [], "'magic'"),
    "a method twice": ("draft,lookup,draft", LINES, [], "'draft' is named twice"),
    "a filler": ("assd", LINES, [], "'assd' that continues prompts"),
    "nothing in the file": ("draft", b"\n \n", [], "at least 1"),
    "no text in a line": ("draft", b'{"text": "a"}\n\n{"text": 3}\n', [], "line 3 of"),
    "a broken line": ("draft", b'{"text": "a"}\n{"text": \n', [], "line 2 of"),
    "no method for the draft": (
        "lookup",
        LINES,
        [],
        "none of the methods autoregressive, lookup drafts",
    ),
    "prompt too long": ("draft", b"x\n" + b"x" * 505 + b"\n", [], "prompt 1 has 505"),
    "no time": ("draft", LINES, ["--repeats", "0"], "at least 1"),
    "no folder": ("draft", LINES, ["--json", "/no/such/folder/x.json"], "/no/such/folder"),
    "no such kind": ("draft", LINES, ["--chart", "x.docx"], "x.docx"),
    "nodes": ("sequoia", LINES, ["--nodes", "2", "--draft-length", "4"], "at least 4 nodes, got 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(jaxdec, pair, prompts, name):
    methods, content, argv, expected = BAD[name]
    prompts.write_bytes(content)
    code, out, err = bench(jaxdec, pair, prompts, methods, *argv)
    assert (code, out) == (2, "") and expected in err and err.count("\n") == 1, err


def test_a_law_that_is_not_finite_is_an_error(jaxdec, models, prompts, tmp_path):
    argv = ["--prompts", prompts, "--target", models / "nan", "--json", tmp_path / "numbers"]
    argv += ["--max-new-tokens", 2, "--repeats", 1]
    code, out, err = jaxdec("bench", "--methods", "autoregressive", *argv)
    assert (code, out) == (1, "") and not (tmp_path / "numbers").exists()
    assert err.splitlines()[-1].startswith("jaxdec bench: the model's law is not finite")


def test_a_file_that_is_not_there(jaxdec, pair, tmp_path):
    code, _, err = bench(jaxdec, pair, tmp_path / "nowhere.txt", "draft")
    assert code == 2 and "nowhere.txt" in err and err.count("\n") == 1
