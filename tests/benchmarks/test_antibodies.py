"""Antibodies as prompts and windows, and the cases that decode them, on tiny random weights."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import antibodies, packages, report
from benchmarks.__main__ import main
from jaxdec.model import from_nnx
from jaxdec.models import Bert, BertConfig, Transformer, TransformerConfig, huggingface

TAGS = ["[CAMEL]", "[HUMAN]", "[MOUSE]", "[RABBIT]", "[RAT]", "[RHESUS]", "[HEAVY]", "[LIGHT]"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *antibodies.RESIDUES, *TAGS]
NUMBERS = {word: i for i, word in enumerate(WORDS)}


def text(row):
    return [WORDS[token] for token in row]


def test_prompts_are_in_the_format_of_the_package():
    held, of = antibodies.prompts(NUMBERS, 64)
    assert len(held) == len({tuple(row) for row in held.tokens}) == 64
    assert np.bincount(of).tolist() == [len(antibodies.FORMS)] * len(antibodies.DOMAINS)
    for row, length, i in zip(held.tokens, held.lengths, of, strict=True):
        domain, words = antibodies.DOMAINS[i], text(row[:length])
        assert words[:2] == [domain.chain, domain.species]
        residues = "".join(words[2:])
        if "[MASK]" in words:
            before, after = residues.removesuffix("[SEP]").split("[MASK]")
            assert words[-1] == "[SEP]" and len(before) + len(after) < len(domain.sequence)
            assert domain.sequence.startswith(before) and domain.sequence.endswith(after)
        else:
            assert domain.sequence.startswith(residues) and len(residues) < len(domain.sequence)


def test_few_prompts_are_of_many_kinds():
    held, of = antibodies.prompts(NUMBERS, 4)
    assert len({*of}) > 2 and np.isin(held.tokens, NUMBERS["[MASK]"]).any()


def test_windows_hide_residues_alone():
    held, of = antibodies.windows(NUMBERS, 20, 7)
    assert (held.masked == 7).all()
    for row, shown, size, i in zip(held.tokens, held.visible, held.sizes, of, strict=True):
        assert text(row[:size]) == ["[CLS]", *antibodies.DOMAINS[i].sequence, "[SEP]"]
        assert shown[0] and shown[size - 1 :].all()


def test_what_is_allowed():
    barred = antibodies.banned(NUMBERS, "[CLS]")
    assert text(np.flatnonzero(~barred)) == ["[CLS]", *antibodies.RESIDUES]


def test_errors_are_over_sequences():
    of = np.array([0, 0, 1, 1])
    assert antibodies.error([1.0, 3.0, 4.0, 4.0], of) == pytest.approx(1.0)  # of the means 2 and 4
    assert antibodies.error([1.0, 3.0], of[:2]) is None


def test_repetition_lowers_variety():
    once, again = np.arange(5, 17), np.tile(np.arange(5, 9), 3)
    varied, same = antibodies.variety([once]), antibodies.variety([again])
    assert varied["repetition"] == 0 and same["repetition"] == pytest.approx(5 / 9)
    assert varied["entropy"] == pytest.approx(np.log2(12)) and same["entropy"] == pytest.approx(2)


def test_weights_that_are_not_there_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXDEC_PACKAGES", str(tmp_path))
    for case in ("iglm", "antiberty"):
        assert main(["run", case, "--quick"]) == 2
        error = capsys.readouterr().err
        assert "python -m benchmarks.packages" in error and error.count("\n") == 1


def write(folder, name):
    """A tiny random checkpoint, with the vocabulary beside it as the packages' are written."""
    sizes = dict(width=16, heads=2, kv_heads=2, head_dim=8, hidden=16, max_length=512)
    if name == "antiberty":
        config, kind = BertConfig(vocab_size=25, layers=1, **sizes), "bert"
        network = Bert(config, rngs=nnx.Rngs(0))
    else:
        biases = dict(attention_bias=True, output_bias=True, mlp_bias=True, norm_bias=True)
        forms = dict(positions="learned", norm="layer", activation="gelu_tanh", gated=False)
        config = TransformerConfig(vocab_size=33, layers=1, **sizes, **forms, **biases)
        network, kind = Transformer(config, rngs=nnx.Rngs(len(name))), "gpt2"
    params = from_nnx(network)[1]
    fields = {"mask_token_id": 4} if name == "antiberty" else {}
    huggingface.save(folder / name, params, config, kind, eos=(2,), fields=fields)
    words = packages.tokenizer(WORDS[: config.vocab_size])
    (folder / name / packages.TOKENIZER).write_text(json.dumps(words))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Both cases, run as a user runs them."""
    root = tmp_path_factory.mktemp("antibodies")
    jax.config.update("jax_disable_most_optimizations", True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDEC_PACKAGES", str(root))
        for name in ("iglm", "iglm-s", "antiberty"):
            write(root, name)
        for case in ("iglm", "antiberty"):
            assert main(["run", case, "--quick", "--results", str(root / "results")]) == 0
    jax.config.update("jax_disable_most_optimizations", False)
    return {result["case"]: result for result in report.load(root / "results")}


@pytest.mark.slow
def test_rows_of_iglm(results):
    rows = results["iglm"]["rows"]
    assert {row["temperature"] for row in rows} == {0.0, 1.0}
    for row in rows:
        assert row["identical"] == 1.0 and row["first_differences"] == []
        assert row["seconds"] > 0 and row["compile_seconds"] >= 0
        assert row["target_forwards"] <= row["tokens"]


@pytest.mark.slow
def test_rows_of_antiberty(results):
    control, *rows = results["antiberty"]["rows"]
    assert control["method"] == "true residues" and control["recovered"] == 1.0
    for row in rows:
        assert row["most_forwards_per_token"] <= 1 and row["bits_per_residue"] > 0
        if row["exactness"] == "token-identical" and row["method"] != "left-to-right":
            assert row["identical"] == 1.0


@pytest.mark.slow
def test_the_report_has_their_tables(results):
    for result in results.values():
        assert report.section(result).count("\n| ") == 2 + len(result["rows"])
