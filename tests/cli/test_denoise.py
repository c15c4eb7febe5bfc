"""`jaxdec denoise`: what it prints is what `jaxdec.generate` gives with the decoder that the options describe."""

import functools
import io
import json
import re
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxdec as library
from jaxdec import catalogue, checkpoints, text
from jaxdec.cli import decode as decoding
from jaxdec.cli import denoise
from jaxdec.cli.display import PROMPT, STEPS
from jaxdec.diffusion import refresh, schedules
from jaxdec.measuring import timing

PROMPT_TEXT = "def f(a):\n  "
TOKENS = 20
SIZE = 8  # of a block: the prompt ends in the second one


@pytest.fixture
def decode(jaxdec, models):
    """Runs the command with the tiny model of blocks; returns stdout and stderr."""

    def run(*argv, prompt=(PROMPT_TEXT,)):
        model = ["--target", models / "blocks", "--max-new-tokens", TOKENS]
        code, out, err = jaxdec("denoise", *prompt, *model, *argv)
        assert code == 0, err
        return out, err

    return run


@pytest.fixture
def report(decode):
    """As `decode`, for the JSON object."""
    return lambda *argv, **options: json.loads(decode("--json", *argv, **options)[0])


def test_tokens_are_those_of_generate(report, models):
    target = checkpoints.load(models / "blocks")
    decoder = library.denoise(
        target.model,
        schedule=schedules.blocks(SIZE, from_start=True),
        refresh=refresh.block(),
        attention="causal",
    )
    banned = np.arange(text.VOCAB_SIZE) >= 256
    banned[text.EOS] = False
    wanted = library.generate(
        decoder,
        {"target": target.params},
        text.encode(PROMPT_TEXT),
        rng=jax.random.key(3),
        max_new_tokens=TOKENS,
        temperature=0.5,
        threshold=0.2,
        banned=banned,
    )
    found = report("--seed", 3, "--temperature", 0.5, "--set", "threshold=0.2")
    new = slice(len(PROMPT_TEXT), int(wanted.lengths[0]))
    assert found["tokens"] == wanted.tokens[0, new].tolist()
    assert found["steps"] == wanted.steps[0, new].tolist()
    assert found["steps"] != sorted(found["steps"])  # not from left to right
    assert found["target_forwards"] == int(wanted.stats.target_forwards[0])
    assert found["status"] == wanted.status[0].name
    assert found["tokens_per_forward"] == len(found["tokens"]) / found["target_forwards"]
    assert (found["prompt"], found["text"]) == (PROMPT_TEXT, text.decode(found["tokens"]))
    assert (found["method"], found["exactness"]) == ("threshold", "heuristic")
    # Knobs reach the decoder: at 0 each of the three blocks and the rest of the prompt's takes one forward.
    assert max(report("--set", "threshold=0")["steps"]) == (12 + TOKENS) // SIZE - 2
    one_a_step = report("--set", "threshold=1")
    assert one_a_step["target_forwards"] >= len(one_a_step["tokens"])


def test_text_goes_to_stdout_and_figures_to_stderr(decode, report):
    streamed, err = decode()
    found = report()
    assert streamed == PROMPT_TEXT + found["text"] + "\n"
    assert decode("--no-stream")[0] == streamed
    (line,) = err.splitlines()
    numbers = f"{len(found['tokens'])} tokens, {found['target_forwards']} forwards, "
    assert line.startswith(numbers + f"{found['tokens_per_forward']:.2f} tokens per forward")
    assert line.endswith(found["status"])


def test_files_and_stdin_hold_bytes(report, tmp_path, monkeypatch):
    (tmp_path / "prompt").write_bytes(b"\xff = ")
    from_file = report(prompt=["--file", tmp_path / "prompt"])
    assert from_file["prompt"] == "\ufffd = "
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff = ")))
    assert report(prompt=["--file", "-"])["tokens"] == from_file["tokens"]


def test_branches_save_forwards_and_nothing_else(report):
    plain = report("--set", "threshold=1")  # the most probable position alone, as freedave
    branches = report("--method", "freedave", "--branches", 2)
    assert branches["tokens"] == plain["tokens"] and branches["steps"] == plain["steps"]
    assert branches["target_forwards"] < plain["target_forwards"]


def test_a_smaller_block_without_a_cache(report):
    found = report("--block", 1, "--cache", "none", "--set", "threshold=0")
    assert found["steps"] == list(range(len(found["tokens"])))  # blocks of one: left to right


def test_show_prints_the_order(decode, report):
    found = report("--set", "threshold=0.2")
    lines = decode("--show", "--no-stream", "--set", "threshold=0.2")[1].splitlines()
    assert lines[0] == "new text: below each byte the step that wrote it"
    assert [int(digit, 36) for digit in lines[2]] == found["steps"]
    assert len(lines) == 4 and len(lines[1]) == len(found["tokens"])


def test_a_terminal_sees_the_canvas_fill(decode, report, monkeypatch):
    found = report("--set", "threshold=0.2")
    terminal = functools.partial(Console, force_terminal=True, color_system="standard", width=80)
    monkeypatch.setattr(denoise, "output", terminal)
    monkeypatch.setattr(denoise, "figures", functools.partial(terminal, stderr=True))
    out, err = decode("--show", "--set", "threshold=0.2")
    dots = "·" * TOKENS
    assert f"\x1b[2m  {dots}\x1b[0m" in out  # before the first step
    assert "\x1b[7;" in out  # something is highlighted
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", out)
    last = plain[plain.rindex("def f(a):") :]
    pictures = "".join(chr(0x2400 + ord(c)) if c < " " else c for c in found["text"])
    assert last.replace("\r", "").strip("\n") == "def f(a):\n  " + pictures
    assert "\x1b[34m0\x1b[0m" in err  # step 0 in the first colour


def canvas(tokens, steps):
    values = SimpleNamespace(tokens=np.array([tokens]), steps=np.array([steps]))
    return SimpleNamespace(canvas=values)


def test_positions_are_highlighted_while_they_are_fresh(monkeypatch):
    monkeypatch.setattr(denoise, "DenoiseState", SimpleNamespace)
    request = SimpleNamespace(
        prompt=np.array([[97, 0]]),
        lengths=np.array([1]),
        settings=SimpleNamespace(max_new_tokens=np.array([3])),
    )
    view = denoise._Canvas(request, text.BYTES)
    shown = lambda: [
        (view.sheet.text().plain[span.start : span.end], span.style)
        for span in view.sheet.text().spans
    ]
    assert shown() == [("a···", PROMPT)]
    fresh = [f"{style} reverse" for style in STEPS]
    view(canvas([97, 0, 98, 99, 0], [-1, -1, 0, 0, -1]))
    assert shown() == [("a·", PROMPT), ("bc", fresh[0])]
    view(canvas([97, 100, 98, 99, 0], [-1, 1, 0, -1, -1]))  # the last one is taken back
    assert shown() == [("a", PROMPT), ("d", fresh[1]), ("b", STEPS[0]), ("·", PROMPT)]
    view(canvas([97, 100, 98, 101, 0], [-1, 1, 0, 2, -1]))
    assert shown()[1:] == [("d", STEPS[1]), ("b", STEPS[0]), ("e", fresh[2])]


BAD = {
    "no prompt": ([], ("TEXT", "--file")),
    "two prompts": (["x", "--file", "y"], ("TEXT", "--file")),
    "empty prompt": ([""], "0 bytes"),
    "no such file": (["--file", "no-such-file"], "no-such-file"),
    "unknown method": (
        ["x", "--method", "fused"],
        ("'fused' that fills a canvas", "`jaxdec info`"),
    ),
    "a name nearly right": (["x", "--method", "treshold"], ("'treshold'", "threshold", "dynamic")),
    "unknown cache": (["x", "--cache", "best"], ("best", *catalogue.REFRESH_RULES)),
    "large block": (["x", "--block", "16"], ("16", "up to 8")),
    "no block": (["x", "--block", "0"], ("'0'", "at least 1")),
    "odd sub-blocks": (["x", "--block", "2", "--cache", "sub-block"], ("quarters", "2")),
    "branches": (["x", "--branches", "2"], ("2", "'threshold' has 1")),
    "unknown knob": (["x", "--set", "steps=2"], ("'steps'", "it has threshold")),
    "no value": (["x", "--set", "threshold"], ("'threshold'", "NAME=float")),
    "no integer": (["x", "--method", "llada", "--set", "steps=2.5"], ("steps=2.5", "NAME=int")),
    "knob range": (["x", "--method", "factor", "--set", "factor=-1"], ("factor", "-1", "[0, inf]")),
    "temperature": (["x", "--temperature", "-1"], ("temperature", "-1")),
    "too long": (["x", "--max-new-tokens", "600"], ("600", "512")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(jaxdec, models, name):
    argv, expected = BAD[name]
    check(jaxdec("denoise", *argv, "--target", models / "blocks"), expected)


def test_models_that_fill_no_blocks(jaxdec, models):
    check(jaxdec("denoise", "x", "--target", models / "target"), "causal")
    check(jaxdec("denoise", "x", "--target", models / "infill"), ("'infill'", "jaxdec infill"))
    check(jaxdec("denoise", "x", "--target", models / "medusa"), ("medusa", "heads on a model"))


def test_a_law_that_is_not_finite_is_an_error(jaxdec, models):
    code, out, err = jaxdec("denoise", "x", "--target", models / "nan-blocks", "--json")
    assert (code, out) == (1, "") and err.startswith("jaxdec denoise: the model's law is not")


def test_nothing_compiles_while_the_clock_runs(decode, monkeypatch):
    looks = []  # programs that were compiled before each look at the clock
    clock = SimpleNamespace(perf_counter=lambda: looks.append(len(timing._COMPILED)) or 0.0)
    monkeypatch.setattr(decoding, "time", clock)
    for how in ("--show", "--json"):
        decode("--cache", "dual", "--block", 4, how)
        began, started, ended = looks[-3:]
        assert began < started == ended


def check(result, expected):
    code, out, err = result
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1 and "Traceback" not in err
    for part in [expected] if isinstance(expected, str) else expected:
        assert part in err
