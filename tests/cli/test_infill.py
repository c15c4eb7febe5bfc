"""`jaxdec infill`: what it writes is what `jaxdec.infill` gives, and everything else stays as it was."""

import functools
import io
import itertools
import json
import os
import re
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxdec as library
from jaxdec import catalogue, checkpoints, text
from jaxdec.cli import gaps, infill
from jaxdec.cli.display import OWN, paint

MARKED = b"def f(a):\n    <FILL:6>\n    return <FILL:4>\n"
BANNED = np.arange(text.VOCAB_SIZE) >= 256


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "marked.py"
    path.write_bytes(MARKED)
    return path


@pytest.fixture
def fill(jaxdec, filler):
    """Runs the command with the tiny model; returns stdout and stderr."""

    def run(*argv):
        code, out, err = jaxdec("infill", *argv, *filler)
        assert code == 0, err
        return out, err

    return run


def expected(models, content, lengths, *, context=240, seed=0, temperature=0.8):
    """The file filled by plain decoding."""
    target = checkpoints.load(models / "infill")
    canvas = gaps.parse(content).canvas(lengths)
    rows = canvas.rows(context)
    tokens, visible, sizes = canvas.batch(rows)
    filled = library.infill(
        library.autoregressive(target.model),
        {"target": target.params},
        tokens,
        visible,
        sizes=sizes,
        rng=jax.random.key(seed),
        temperature=temperature,
        banned=BANNED,
    )
    whole = canvas.tokens.copy()
    for row, place in enumerate(rows):
        whole[place] = np.asarray(filled.tokens)[row, : sizes[row]]
    assert whole[0] == text.BOS and whole[-1] == text.EOS
    return bytes(whole[1:-1].tolist())


@pytest.mark.parametrize("method", ["fused", "any-order", "any-order-draft"])
def test_text_is_that_of_infill(fill, models, file, tmp_path, method):
    draft = ["--draft", models / "infill-draft"] if method == "any-order-draft" else []
    out, err = fill(file, "--method", method, *draft, "--output", tmp_path / "out", "--seed", 3)
    filled = (tmp_path / "out").read_bytes()
    assert filled == expected(models, MARKED, [6, 4], seed=3)
    assert filled[:14] == MARKED[:14] and filled[20:32] == b"\n    return "
    assert filled[36:] == b"\n" and len(filled) == 37
    assert out == "" and file.read_bytes() == MARKED
    (line,) = err.splitlines()
    assert line.startswith("10 tokens filled, ") and "forwards per token" in line
    assert os.listdir(tmp_path).count("out") == 1 and len(os.listdir(tmp_path)) == 2


def test_text_goes_to_stdout_and_figures_to_stderr(fill, models, file):
    out, err = fill(file)
    assert out == expected(models, MARKED, [6, 4]).decode("utf-8", "replace")
    assert len(err.splitlines()) == 1
    assert fill(file, "--no-stream")[0] == out


def test_greedy_fills_do_not_depend_on_the_method(fill, models, file):
    wanted = expected(models, MARKED, [6, 4], temperature=0).decode("utf-8", "replace")
    assert fill(file, "--method", "assd-token", "--temperature", 0)[0] == wanted


def test_stdin_another_marker_and_no_text_around(fill, models, monkeypatch):
    marked = b"<FILL:2><\xff:5>"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(marked)))
    report = json.loads(fill("-", "--marker", os.fsdecode(b"\xff"), "--json")[0])
    assert report["text"].startswith("<FILL:2>")
    assert report["gaps"][0]["start"] == 8 and report["gaps"][0]["length"] == 5
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"<FILL:5>")))
    report = json.loads(fill("-", "--json")[0])
    assert bytes(report["gaps"][0]["tokens"]) == expected(models, b"<FILL:5>", [5])


def test_gaps_far_apart_have_rows_of_their_own(fill, models, tmp_path):
    marked = b"<FILL:3>" + b"x = 1\n" * 10 + b"y = <FILL:4>\n"
    (tmp_path / "far").write_bytes(marked)
    report = json.loads(fill(tmp_path / "far", "--context", 20, "--json")[0])
    wanted = expected(models, marked, [3, 4], context=20)
    assert report["text"] == wanted.decode("utf-8", "replace")
    assert [bytes(gap["tokens"]) for gap in report["gaps"]] == [wanted[:3], wanted[67:71]]


def test_in_place_keeps_permissions_and_follows_links(fill, models, file, tmp_path):
    file.chmod(0o640)
    (tmp_path / "link").symlink_to(file)
    fill(tmp_path / "link", "--in-place")
    assert file.read_bytes() == expected(models, MARKED, [6, 4])
    assert file.stat().st_mode & 0o777 == 0o640
    assert (
        sorted(os.listdir(tmp_path)) == ["link", "marked.py"] and (tmp_path / "link").is_symlink()
    )


def test_output_is_written_whole_or_not_at_all(jaxdec, filler, file, tmp_path, monkeypatch):
    (tmp_path / "out").write_bytes(b"before")

    def fails(self, target):
        raise OSError("no room")

    monkeypatch.setattr(type(tmp_path), "replace", fails)
    code, out, err = jaxdec("infill", file, "--output", tmp_path / "out", *filler)
    assert (code, out, err) == (2, "", "jaxdec infill: no room\n")
    assert (tmp_path / "out").read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["marked.py", "out"]


def test_chosen_lengths(fill, models, tmp_path):
    marked = b"a = <FILL> + <FILL:3>\n"
    (tmp_path / "open").write_bytes(marked)
    argv = [tmp_path / "open", "--lengths", "2,4-5", "--seed", 5]
    report = json.loads(fill(*argv, "--json")[0])
    target = checkpoints.load(models / "infill")
    choice = library.choose_length(
        library.autoregressive(target.model),
        {"target": target.params},
        [text.BOS, *b"a = "],
        [*b" + \n", text.EOS],
        (2, 4, 5),
        rng=jax.random.fold_in(jax.random.key(5), 0),
        temperature=0.8,
        banned=BANNED,
    )
    chosen, given = report["gaps"]
    assert chosen["length"] == choice.length and given["length"] == 3
    assert chosen["log_probs"] == {str(n): score for n, score in choice.log_probs.items()}
    assert given["log_probs"] is None
    filled = expected(models, marked, [choice.length, 3], seed=5)
    assert report["text"] == filled.decode("utf-8", "replace")
    out, err = fill(*argv)
    assert out == report["text"]
    assert err.startswith(f"lengths chosen: {choice.length} for gap 1 (")


def test_json(fill, models, file):
    out, err = fill(file, "--json", "--order")
    report = json.loads(out)
    assert err == ""
    filled = expected(models, MARKED, [6, 4])
    assert report["text"] == filled.decode("utf-8", "replace")
    assert (report["method"], report["exactness"]) == ("fused", "token-identical")
    first, second = report["gaps"]
    assert (first["start"], second["start"]) == (14, 32)
    assert bytes(first["tokens"] + second["tokens"]) == filled[14:20] + filled[32:36]
    assert first["text"] == filled[14:20].decode("utf-8", "replace")
    steps, drafted = first["steps"] + second["steps"], first["drafted"] + second["drafted"]
    assert steps[0] == 0 and max(steps) == report["target_forwards"] - 1
    # The order is from left to right, and each step closes with a token of the model's own.
    assert steps == sorted(steps)
    assert drafted == [a == b for a, b in itertools.pairwise(steps)] + [drafted[-1]]
    assert report["tokens"] == 10
    assert report["forwards_per_token"] == report["target_forwards"] / 10
    assert 0 <= report["acceptance"] <= 1 and report["choice_seconds"] is None
    whole = json.loads(fill(file, "--json")[0])
    for gap in report["gaps"]:
        del gap["steps"]
    assert whole["gaps"] == report["gaps"]
    assert whole["target_forwards"] == report["target_forwards"]


def test_order_is_shown_below_the_bytes(fill, file):
    lines = fill(file, "--method", "any-order", "--order")[1].splitlines()
    assert lines[0].startswith("gap 1: ") and lines[3].startswith("gap 2: ")
    assert (lines[2], lines[5]) == ("012345", "6789")


@pytest.mark.parametrize("how", [[], ["--no-stream"]])
def test_a_terminal_gets_the_text_in_colours(fill, models, file, monkeypatch, how):
    terminal = functools.partial(Console, force_terminal=True, color_system="standard", width=80)
    monkeypatch.setattr(infill, "output", terminal)
    monkeypatch.setattr(infill, "figures", functools.partial(terminal, stderr=True))
    out, err = fill(file, "--method", "any-order", *how)
    assert "\x1b[32mdrafted and accepted" in err
    dim, own, off = "\x1b[2m", "\x1b[95m", "\x1b[0m"
    assert (f"{dim}    ······{off}" in out) == (not how)
    # What stands at last: visible text dim, the model's own bytes in their colour.
    last = out[out.rindex(f"{dim}def f(a):") :]
    assert last.startswith(f"{dim}def f(a):{off}\n{dim}    {off}{own}")
    filled = expected(models, MARKED, [6, 4])
    assert re.sub(r"\x1b\[\d*m", "", last) == paint(filled, [OWN] * len(filled)).plain


def test_a_law_that_is_not_finite_writes_nothing(jaxdec, models, file, tmp_path):
    argv = [file, "--output", tmp_path / "out", "--target", models / "nan-infill"]
    code, out, err = jaxdec("infill", *argv)
    assert (code, out) == (1, "") and not (tmp_path / "out").exists()
    assert err == "jaxdec infill: the model's law is not finite: row 0 ended after 0 tokens\n"


BAD = {
    "no marker": (b"x = 1\n", [], "no marker <FILL:n>"),
    "empty file": (b"", [], "empty (0 bytes)"),
    "gap of nothing": (b"<FILL:0>", [], "<FILL:0>"),
    "gap too long": (b"a<FILL:512>", [], ("gap 1", "512", "capacity")),
    "row too long": (b"x" * 200 + b"<FILL:300>" + b"y" * 200, [], ("240", "702", "512")),
    "candidate too long": (b"x<FILL>", ["--lengths", "600"], ("603", "512")),
    "lengths": (b"x<FILL>", ["--lengths", "4,0"], ("'4,0'", "from 1 to")),
    "empty marker": (b"x<FILL:2>", ["--marker", ""], "marker is empty"),
    "unknown method": (b"x<FILL:2>", ["--method", "medusa"], ("medusa", *catalogue.INFILLING)),
    "causal method": (b"x<FILL:2>", ["--method", "lookup"], ("lookup", "any-order")),
    "width": (b"x<FILL:2>", ["--draft-length", "1"], ("width", "1")),
    "context": (b"x<FILL:2>", ["--context", "0"], ("'0'", "at least 1")),
    "temperature": (b"x<FILL:2>", ["--temperature", "-1"], ("temperature", "-1")),
    "a draft for nobody": (b"x<FILL:2>", ["--draft", "nonexist"], ("'fused'", "'nonexist'")),
    "a garbled marker": (b"x<FILL:<FILL:3>>", [], ("<FILL:", "byte 1")),
    "two outputs": (b"x<FILL:2>", ["--in-place", "--output", "y"], "--in-place"),
    "no such folder": (b"x<FILL:2>", ["--output", "no/such/folder"], "no/such/folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(jaxdec, filler, tmp_path, name):
    content, argv, expected = BAD[name]
    (tmp_path / "file").write_bytes(content)
    check(jaxdec("infill", tmp_path / "file", *filler, *argv), expected)


def test_bad_files_and_models(jaxdec, filler, file, models, tmp_path):
    check(jaxdec("infill", tmp_path / "nothing", *filler), "nothing")
    check(jaxdec("infill", "-", "--in-place", *filler), "stdin")
    check(jaxdec("infill", file, "--target", models / "target"), "causal")
    causal = ["--method", "any-order-draft", "--draft", models / "draft"]
    check(jaxdec("infill", file, "--target", models / "infill", *causal), "draft model is causal")
    assert file.read_bytes() == MARKED


def check(result, expected):
    code, out, err = result
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1 and "Traceback" not in err
    for part in [expected] if isinstance(expected, str) else expected:
        assert part in err
