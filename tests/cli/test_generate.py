import io
import json
import sys

import pytest

PROMPTS = ["def add(a, b):\n", "import os\nimport sys\nimport", "x"]
WALKS = ["autoregressive", "draft", "lookup"]


def decode(jaxdec, pair, *argv, prompts=PROMPTS, tokens=24):
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    code, out, err = jaxdec("generate", *words, *pair, "--max-new-tokens", tokens, *argv)
    assert (code, err) == (0, "")
    return out


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_methods_give_the_same_text(jaxdec, pair, temperature):
    argv = ["--temperature", temperature, "--json", "--seed", 3]
    plain, *others = [
        json.loads(decode(jaxdec, pair, *argv, "--method", method)) for method in WALKS
    ]
    assert plain["exactness"] == "token-identical"
    for row in plain["rows"]:
        assert len(row["tokens"]) == 24 or row["status"] == "EOS"
    for other in others:
        assert [row["tokens"] for row in other["rows"]] == [row["tokens"] for row in plain["rows"]]
    assert others[0]["target_forwards"] < plain["target_forwards"] == plain["tokens"]


def test_a_masked_model_drafts(jaxdec, pair, models):
    argv = ["--temperature", 0.8, "--json", "--seed", 3]
    plain = json.loads(decode(jaxdec, pair, *argv, "--method", "autoregressive"))
    drafts = ["--method", "diffuspec", "--draft", models / "blocks"]
    found = json.loads(decode(jaxdec, pair, *argv, *drafts))
    assert [r["tokens"] for r in found["rows"]] == [r["tokens"] for r in plain["rows"]]
    assert found["exactness"] == "token-identical"


def test_block_verification_is_greedy_at_temperature_zero(jaxdec, pair):
    methods = [["autoregressive"], ["draft", "--verifier", "block"]]
    plain, block = (
        json.loads(decode(jaxdec, pair, "--temperature", 0, "--json", "--method", *method))
        for method in methods
    )
    assert block["exactness"] == "distribution-identical"
    assert [row["tokens"] for row in block["rows"]] == [row["tokens"] for row in plain["rows"]]


def test_streamed_text_is_the_whole_text(jaxdec, pair):
    streamed, whole = (
        decode(jaxdec, pair, "--method", "lookup", *how).splitlines()
        for how in ([], ["--no-stream"])
    )
    assert streamed[:-1] == whole[:-1]
    report = json.loads(decode(jaxdec, pair, "--method", "lookup", "--json"))
    rows = "".join(row["prompt"] + row["text"] + "\n" for row in report["rows"])
    assert "\n".join(streamed[:-1]) == "\n".join(rows.splitlines())
    for line in (streamed[-1], whole[-1]):
        numbers = f"{report['tokens']} tokens, {report['target_forwards']} target forwards, "
        assert line.startswith(numbers + f"{report['tokens_per_forward']:.2f} tokens per forward")


def test_stdin_bytes_need_not_be_text(jaxdec, pair, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe = ")))
    out = decode(jaxdec, pair, "--json", "--method", "lookup", prompts=["-"])
    assert json.loads(out)["rows"][0]["prompt"] == "\ufffd\ufffd = "


def test_settings_reach_the_decoder(jaxdec, pair):
    only = ["--logit-bias", "97=1000", "--method", "autoregressive", "--json"]
    rows = json.loads(decode(jaxdec, pair, *only, "--stop", "aaa", prompts=["x"]))["rows"]
    assert rows[0]["text"] == "aaa" and rows[0]["status"] == "STOP_SEQUENCE"
    rows = json.loads(decode(jaxdec, pair, *only, "--ban", "97", prompts=["x"], tokens=8))["rows"]
    assert len(rows[0]["tokens"]) > 0 and "a" not in rows[0]["text"]


def test_nothing_to_generate(jaxdec, pair):
    out = decode(jaxdec, pair, "--method", "lookup", prompts=["abc"], tokens=0)
    assert out.splitlines()[0] == "abc"
    assert out.splitlines()[1].startswith("0 tokens, 0 target forwards, 0.00 tokens per forward")


def test_empty_prompt_with_bos(jaxdec, pair):
    argv = ["--bos", "--method", "lookup", "--json"]
    rows = json.loads(decode(jaxdec, pair, *argv, prompts=[""], tokens=4))["rows"]
    assert len(rows[0]["tokens"]) == 4
