"""`jaxdec generate`: text on stdout, figures on stderr, and the methods of the catalogue by their names."""

import io
import json
import re
import sys
from types import SimpleNamespace

import pytest

from jaxdec import catalogue
from jaxdec.cli import decode as decoding
from jaxdec.measuring import timing

PROMPTS = ["def add(a, b):\n", "import os\nimport sys\nimport", "x"]
WALKS = ["autoregressive", "draft", "lookup"]


def decode(jaxdec, models, *argv, prompts=PROMPTS, tokens=24):
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    argv = ["--target", models / "target", "--max-new-tokens", tokens, *argv]
    code, out, err = jaxdec("generate", *words, *argv)
    assert code == 0, err
    if "--json" in argv:
        assert err == ""
        return out
    return out, err


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_methods_give_the_same_text(jaxdec, models, temperature):
    argv = ["--temperature", temperature, "--json", "--seed", 3]
    draft = ["--draft", models / "draft"]
    plain, *others = [
        json.loads(decode(jaxdec, models, *argv, "--method", m, *(draft if m == "draft" else [])))
        for m in WALKS
    ]
    assert plain["exactness"] == "token-identical"
    for row in plain["rows"]:
        assert len(row["tokens"]) == 24 or row["status"] == "EOS"
    for other in others:
        assert [row["tokens"] for row in other["rows"]] == [row["tokens"] for row in plain["rows"]]
    assert others[0]["target_forwards"] < plain["target_forwards"] == plain["tokens"]


def test_a_text_is_what_it_was_asked_to_be(jaxdec, models, tmp_path):
    asked = ["--json", "--method", "lookup", "--seed", 3]
    for row in json.loads(decode(jaxdec, models, *asked, "--regex", "[ab]{2,9}!|é"))["rows"]:
        assert re.fullmatch("[ab]{2,9}!|é", row["text"]) and row["status"] == "EOS"
    schema = tmp_path / "schema.json"
    schema.write_text(
        '{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}'
    )
    for row in json.loads(decode(jaxdec, models, *asked, "--json-schema", schema))["rows"]:
        assert set(json.loads(row["text"])) == {"a"}
    argv = ["generate", "--prompt", "x", "--target", models / "target", "--max-new-tokens", 3]
    for more, message in (
        (("--regex", "aaaa"), "asks for 3 new tokens, must ask for at least 4"),
        (("--regex", "("), "no regular expression"),
        (("--json-schema", tmp_path / "none"), "No such file"),
    ):
        code, _, err = jaxdec(*argv, *more)
        assert code == 2 and message in err, err


def test_samples_share_a_prompt(jaxdec, models):
    argv = ["--json", "--seed", 3, "--method", "lookup", "--no-repeat-ngram", 3]
    one = json.loads(decode(jaxdec, models, *argv, tokens=12))["rows"]
    argv += ["--n", 2, "--top-log-probs", 3, "--min-new-tokens", 12]
    two = json.loads(decode(jaxdec, models, *argv, tokens=12))["rows"]
    assert [row["prompt"] for row in two[::2]] == PROMPTS == [row["prompt"] for row in two[1::2]]
    for first, alone in zip(two[::2], one, strict=True):
        assert first["tokens"][: len(alone["tokens"]) - 1] == alone["tokens"][:-1]
    assert any(a["tokens"] != b["tokens"] for a, b in zip(two[::2], two[1::2], strict=True))
    for row in two:
        assert len(row["tokens"]) == 12 == len(row["top_log_probs"])
        for top in row["top_log_probs"]:
            assert len(top) == 3 and sorted(top.values(), reverse=True) == list(top.values())
        assert len({tuple(row["tokens"][i : i + 3]) for i in range(10)}) == 10
    assert "top_log_probs" not in one[0]


def test_a_masked_model_drafts(jaxdec, models):
    argv = ["--temperature", 0.8, "--json", "--seed", 3]
    plain = json.loads(decode(jaxdec, models, *argv, "--method", "autoregressive"))
    drafts = ["--method", "diffuspec", "--draft", models / "blocks"]
    found = json.loads(decode(jaxdec, models, *argv, *drafts))
    assert [r["tokens"] for r in found["rows"]] == [r["tokens"] for r in plain["rows"]]
    assert found["exactness"] == "token-identical"


def test_block_verification_is_greedy_at_temperature_zero(jaxdec, models):
    methods = [["autoregressive"], ["draft", "--verifier", "block", "--draft", models / "draft"]]
    plain, block = (
        json.loads(decode(jaxdec, models, "--temperature", 0, "--json", "--method", *method))
        for method in methods
    )
    assert block["exactness"] == "distribution-identical"
    assert [row["tokens"] for row in block["rows"]] == [row["tokens"] for row in plain["rows"]]


def test_streamed_text_is_the_whole_text(jaxdec, models):
    streamed, whole = (
        decode(jaxdec, models, "--method", "lookup", *how) for how in ([], ["--no-stream"])
    )
    report = json.loads(decode(jaxdec, models, "--method", "lookup", "--json"))
    rows = "".join(row["prompt"] + row["text"] + "\n" for row in report["rows"])
    numbers = f"{report['tokens']} tokens, {report['target_forwards']} target forwards, "
    for out, err in (streamed, whole):
        assert out == rows
        assert err.count("\n") == 1
        assert err.startswith(numbers + f"{report['tokens_per_forward']:.2f} tokens per forward")


def test_stdin_bytes_need_not_be_text(jaxdec, models, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe = ")))
    out = decode(jaxdec, models, "--json", "--method", "lookup", prompts=["-"])
    assert json.loads(out)["rows"][0]["prompt"] == "\ufffd\ufffd = "


def test_settings_reach_the_decoder(jaxdec, models):
    only = ["--logit-bias", "97=1000", "--method", "autoregressive", "--json"]
    rows = json.loads(decode(jaxdec, models, *only, "--stop", "aaa", prompts=["x"]))["rows"]
    assert rows[0]["text"] == "aaa" and rows[0]["status"] == "STOP_SEQUENCE"
    rows = json.loads(decode(jaxdec, models, *only, "--ban", "97", prompts=["x"], tokens=8))["rows"]
    assert len(rows[0]["tokens"]) > 0 and "a" not in rows[0]["text"]


def test_nothing_to_generate(jaxdec, models):
    out, err = decode(jaxdec, models, "--method", "lookup", prompts=["abc"], tokens=0)
    assert out == "abc\n"
    assert err.startswith("0 tokens, 0 target forwards, 0.00 tokens per forward")


def test_empty_prompt_with_bos(jaxdec, models):
    argv = ["--bos", "--method", "lookup", "--json"]
    rows = json.loads(decode(jaxdec, models, *argv, prompts=[""], tokens=4))["rows"]
    assert len(rows[0]["tokens"]) == 4


def test_every_name_of_the_catalogue_is_taken(jaxdec, models, monkeypatch):
    seen = []

    def assemble(method, *others, **options):
        seen.append(method.name)
        raise ValueError("seen")

    monkeypatch.setattr("jaxdec.cli.generate.assemble", assemble)
    methods = catalogue.METHODS.values()
    names = [m.name for m in methods if not (m.infills or m.denoises or m.searches)]
    pairs = [("specinfer", "recursive"), ("draft", "block"), ("draft", "walk")]
    words = [["--method", n] for n in names]
    words += [["--method", n, "--verifier", v] for n, v in pairs]
    for method in words:
        code, _, err = jaxdec("generate", "--prompt", "x", "--target", models / "target", *method)
        assert (code, err) == (2, "jaxdec generate: seen\n"), err
    assert seen == [*names, "specinfer-recursive", "draft-block", "draft"]


@pytest.mark.parametrize("how", [[], ["--no-stream"], ["--json"]])
def test_a_law_that_is_not_finite_is_an_error(jaxdec, models, how):
    argv = ["--prompt", "x", "--method", "lookup", "--target", models / "nan", *how]
    code, out, err = jaxdec("generate", *argv)
    assert code == 1 and out == ("x\n" if not how else "")
    (line,) = err.splitlines()
    assert line == "jaxdec generate: the model's law is not finite: row 0 ended after 0 tokens"


@pytest.mark.parametrize("how", [[], ["--no-stream"]])
def test_nothing_compiles_while_the_clock_runs(jaxdec, models, how, monkeypatch):
    """Speeds that are printed are of decoding alone."""
    looks = []  # programs that were compiled before each look at the clock
    clock = SimpleNamespace(perf_counter=lambda: looks.append(len(timing._COMPILED)) or 0.0)
    monkeypatch.setattr(decoding, "time", clock)
    decode(jaxdec, models, "--method", "lookup", *how, tokens=200)
    began, started, ended = looks
    assert began < started == ended


def test_a_loop_in_chunks_gives_what_one_loop_gives(jaxdec, models, monkeypatch):
    argv = ["--method", "autoregressive", "--json", "--seed", 1]
    one = json.loads(decode(jaxdec, models, *argv))
    chunks, run = [], decoding.run

    def counted(*arguments, **options):
        chunks.append(options["max_steps"])
        return run(*arguments, **options)

    monkeypatch.setattr(decoding, "run", counted)
    monkeypatch.setattr(decoding, "CHUNK", 5)
    many = json.loads(decode(jaxdec, models, *argv))
    assert chunks == [0, 0, *[5] * 5]
    drop = lambda report: {k: v for k, v in report.items() if "second" not in k}
    assert drop(many) == drop(one)


def test_interrupts_are_heard_between_chunks(jaxdec, models, monkeypatch):
    run = decoding.run

    def interrupted(*arguments, **options):
        if options["max_steps"]:
            raise KeyboardInterrupt
        return run(*arguments, **options)

    monkeypatch.setattr(decoding, "run", interrupted)
    argv = ["generate", "--prompt", "x", "--no-stream", "--method", "lookup"]
    assert jaxdec(*argv, "--target", models / "target") == (130, "", "")


def test_bytes_go_through_any_locale(jaxdec, models, monkeypatch):
    """A terminal of another encoding gets the UTF-8 that the models write."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    argv = ["--prompt", "é = ", "--method", "lookup", "--target", models / "target"]
    assert jaxdec("generate", *argv, "--max-new-tokens", 4)[0] == 0
    assert raw.getvalue().startswith("é = ".encode())
