"""Bad input: one line on stderr that names the value and the limit, exit code 2."""

import io
import shutil
import sys

import pytest

from jaxdec.cli import info

CASES = {
    "no command": ([], "command"),
    "unknown command": (["frobnicate"], "frobnicate"),
    "unknown method": (
        ["generate", "--method", "medussa", "--prompt", "x"],
        ("'medussa'", "medusa", "`jaxdec info`"),
    ),
    "a family without its verifier": (
        ["generate", "--method", "specinfer", "--prompt", "x"],
        ("'specinfer'", "specinfer-recursive"),
    ),
    "a method that fills gaps": (
        ["generate", "--method", "assd", "--prompt", "x"],
        ("'assd'", "continues prompts"),
    ),
    "unknown verifier": (["generate", "--verifier", "best", "--prompt", "x"], ("best", "block")),
    "no such pairing": (
        ["generate", "--method", "autoregressive", "--verifier", "block", "--prompt", "x"],
        ("autoregressive-block", "`jaxdec info`"),
    ),
    "no prompt": (["generate"], "--prompt"),
    "empty prompt": (["generate", "--prompt", "x", "--prompt", ""], ("prompt 1", "at least 1")),
    "unknown option": (["demo", "--fast"], "--fast"),
    "seed": (["generate", "--prompt", "x", "--seed", "-1"], ("'-1'", "4294967295")),
    "draft length": (["generate", "--prompt", "x", "--draft-length", "0"], ("'0'", "from 1 to 64")),
    "demo length": (["demo", "--max-new-tokens", "0"], ("'0'", "from 1 to 4096")),
    "missing checkpoint": (
        ["generate", "--prompt", "x", "--target", "no-such-model"],
        "no-such-model",
    ),
    "nameless checkpoint": (["demo", "--target", ""], "empty"),
    "placement": (
        ["generate", "--prompt", "x", "--placement", "rows=2"],
        ("'rows=2'", "data, model, sequence"),
    ),
    "an axis of no devices": (
        ["infill", "--prompt", "x<FILL:3>", "--placement", "model=0"],
        ("'model=0'", "data=2,model=4"),
    ),
    "more devices than there are": (
        ["generate", "--prompt", "x", "--method", "lookup", "--placement", "model=4096"],
        ("4096 devices", "got 1"),
    ),
    "unknown preset": (["train", "gpt-5"], ("gpt-5", "code-target")),
    "steps": (["train", "code-target", "--steps", "0"], ("'0'", "at least 1")),
    "a draft for nobody": (
        ["generate", "--prompt", "x", "--method", "lookup", "--draft", "nonexist"],
        ("'lookup'", "'nonexist'"),
    ),
    "a missing draft": (
        ["generate", "--prompt", "x", "--draft", "nonexist"],
        ("'nonexist'", "code-draft"),
    ),
    "heads of another width": (
        ["generate", "--prompt", "x", "--method", "eagle", "--target", "code-draft"],
        ("code-eagle", "256", "code-draft", "64"),
    ),
    "no sample": (["generate", "--prompt", "x", "--n", "0"], ("'0'", "from 1 to 1024")),
    "probabilities of a stream": (
        ["generate", "--prompt", "x", "--top-log-probs", "2"],
        ("--top-log-probs", "--json"),
    ),
    "two corpora": (["train", "code-target", "--packages", "--corpus", "x"], "--packages"),
}

WITH_MODELS = {
    "prompt too long": (["--prompt", "x" * 500], ("500", "128", "512")),
    "temperature": (["--temperature", "-0.5"], ("temperature", "-0.5", ">= 0")),
    "temperature nan": (["--temperature", "nan"], ("temperature", "nan")),
    "top_p zero": (["--top-p", "0"], ("top_p", "(0, 1]")),
    "top_p large": (["--top-p", "1.5"], ("top_p", "1.5", "(0, 1]")),
    "top_k": (["--top-k", "-3"], ("top_k", "-3", ">= 0")),
    "min_p": (["--min-p", "2"], ("min_p", "2", "[0, 1]")),
    "no_repeat_ngram": (["--no-repeat-ngram", "-1"], ("no_repeat_ngram", "-1", ">= 0")),
    "max new tokens": (["--max-new-tokens", "-1"], ("-1", "must lie in [0,")),
    "empty stop": (["--stop", ""], "stop string 0 is empty"),
    "banned token": (["--ban", "260"], ("260", "vocabulary")),
    "bias": (["--logit-bias", "a=b"], "a=b"),
    "bias token": (["--logit-bias", "300=1"], ("300", "260")),
}


def check(result, expected):
    code, out, err = result
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err + out
    assert out == ""
    for part in [expected] if isinstance(expected, str) else expected:
        assert part in err


@pytest.mark.parametrize("name", CASES)
def test_arguments(jaxdec, name):
    argv, expected = CASES[name]
    check(jaxdec(*argv), expected)


@pytest.mark.parametrize("name", WITH_MODELS)
def test_settings(jaxdec, target, name):
    argv, expected = WITH_MODELS[name]
    prompt = [] if "--prompt" in argv else ["--prompt", "x = "]
    check(jaxdec("generate", *prompt, *target, "--method", "lookup", *argv), expected)


def test_draft_with_another_vocabulary(jaxdec, models):
    argv = ["generate", "--prompt", "x", "--target", models / "target", "--draft", models / "other"]
    check(jaxdec(*argv), ("300", "260"))


def test_heads_of_another_width(jaxdec, models, target):
    argv = ["--method", "medusa", "--draft", models / "medusa"]
    check(jaxdec("generate", "--prompt", "x", *target, *argv), ("medusa", "32", "target", "16"))


def test_prompt_from_empty_stdin(jaxdec, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    check(jaxdec("generate", "--prompt", "-"), "prompt 0 is empty")
    monkeypatch.setattr(sys, "stdin", None)
    check(jaxdec("generate", "--prompt", "-"), "stdin is closed")


@pytest.mark.parametrize("command", ["generate", "denoise", "infill"])
def test_damaged_checkpoint(jaxdec, models, tmp_path, command):
    shutil.copytree(models / "target", tmp_path / "broken")
    for path in (tmp_path / "broken" / "weights" / "d").iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    (tmp_path / "marked").write_text("<FILL:2>")
    argv = {
        "generate": ["--method", "lookup", "--prompt", "x"],
        "denoise": ["x"],
        "infill": [tmp_path / "marked"],
    }[command]
    check(jaxdec(command, *argv, "--target", tmp_path / "broken"), ("broken", "damaged"))


def test_interrupt_is_quiet(jaxdec, monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "run", interrupted)
    assert jaxdec("info") == (130, "", "")
