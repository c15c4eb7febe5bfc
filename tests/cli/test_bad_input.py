"""Bad input: one line on stderr that names the value and the limit, exit code 2."""

import io
import json
import shutil
import sys

import pytest

from jaxdec.cli import COMMANDS
from tests.cli.processes import start

CASES = {
    "no command": ([], "command"),
    "unknown command": (["frobnicate"], "frobnicate"),
    "unknown method": (
        ["generate", "--method", "parrot", "--prompt", "x"],
        ("parrot", "autoregressive", "draft", "lookup"),
    ),
    "unknown verifier": (["generate", "--verifier", "best", "--prompt", "x"], ("best", "block")),
    "no such pairing": (
        ["generate", "--method", "autoregressive", "--verifier", "block", "--prompt", "x"],
        ("autoregressive-block", "draft-block"),
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
    "unknown preset": (["train", "gpt-5"], ("gpt-5", "code-target")),
    "steps": (["train", "code-target", "--steps", "0"], ("'0'", "at least 1")),
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
    "max new tokens": (["--max-new-tokens", "-1"], ("-1", "at least 0")),
    "empty stop": (["--stop", ""], "stop sequence 0 is empty"),
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
def test_settings(jaxdec, pair, name):
    argv, expected = WITH_MODELS[name]
    prompt = [] if "--prompt" in argv else ["--prompt", "x = "]
    check(jaxdec("generate", *prompt, *pair, *argv), expected)


def test_draft_with_another_vocabulary(jaxdec, models):
    argv = ["generate", "--prompt", "x", "--target", models / "target", "--draft", models / "other"]
    check(jaxdec(*argv), ("300", "260"))


def test_prompt_from_empty_stdin(jaxdec, pair, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    check(jaxdec("generate", "--prompt", "-", *pair), "prompt 0 is empty")


def _without_weights(folder):
    shutil.rmtree(folder / "weights")


def _with_half_a_config(folder):
    (folder / "config.json").write_text((folder / "config.json").read_text()[:50])


def _with_another_width(folder):
    held = json.loads((folder / "config.json").read_text())
    held["model"]["width"] = 24
    (folder / "config.json").write_text(json.dumps(held))


def _with_truncated_weights(folder):
    for path in folder.glob("weights/**/*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:20])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage",
    [_without_weights, _with_half_a_config, _with_another_width, _with_truncated_weights],
)
def test_damaged_checkpoint(jaxdec, models, tmp_path, damage):
    shutil.copytree(models / "target", tmp_path / "broken")
    damage(tmp_path / "broken")
    argv = ["generate", "--method", "lookup", "--prompt", "x", "--target", tmp_path / "broken"]
    check(jaxdec(*argv), ("broken", "damaged"))


def test_flipped_bytes_give_one_line_in_a_real_process(models, tmp_path):
    shutil.copytree(models / "target", tmp_path / "broken")
    for path in (tmp_path / "broken" / "weights" / "d").iterdir():
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(64)
        path.write_bytes(content)
    argv = ["generate", "--method", "lookup", "--prompt", "x", "--target", tmp_path / "broken"]
    process = start(*argv)
    out, err = process.communicate()
    check((process.returncode, out, err), ("broken", "damaged"))


def test_interrupt_is_quiet(jaxdec, monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(COMMANDS["info"], "run", interrupted)
    assert jaxdec("info") == (130, "", "")
