"""The command line encodes and decodes as the checkpoint says."""

import dataclasses
import json
import re

import jax
import pytest
from flax import nnx

from jaxdec import checkpoints, text
from jaxdec.model import from_nnx
from jaxdec.models import Transformer, huggingface
from jaxdec.training.trainer import build
from tests.cli.conftest import TINY

pytest.importorskip("tokenizers")

from tests.text.tokenizers_made import byte_level, save

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
CONFIG = {
    "bos_token": "<|begin|>",
    "eos_token": "<|end|>",
    "mask_token": "<|mask|>",
    "chat_template": TEMPLATE,
}
TAIL = ["--max-new-tokens", 12, "--json", "--seed", 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints with a tokenizer of their own: a public one, one of gaps, and one whose vocabulary holds no bytes."""
    folder, made = tmp_path_factory.mktemp("vocabularies"), byte_level()
    size = made.get_vocab_size() + 3  # models have more tokens than their tokenizers
    config = dataclasses.replace(TINY, vocab_size=size)
    params = jax.tree.map(lambda x: 3 * x, build(config, seed=0)[1])
    end, mask = made.token_to_id("<|end|>"), made.token_to_id("<|mask|>")
    huggingface.save(folder / "causal", params, config, "llama", eos=[end])
    fills = dict(fills="subsets", mask_token=mask)
    checkpoints.save(folder / "gaps", config, params, eos=[end], **fills)
    for name in ("causal", "gaps"):
        save(folder / name, made, CONFIG)
    small = dataclasses.replace(TINY, vocab_size=100)
    checkpoints.save(folder / "small", small, from_nnx(Transformer(small, rngs=nnx.Rngs(0)))[1])
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return text.load(folder / "causal")


@pytest.fixture
def rows(jaxdec, folder):
    """What `jaxdec generate` says of its rows."""

    def run(*argv):
        method = ["--method", "autoregressive", "--model", folder / "causal"]
        code, out, err = jaxdec("generate", *method, *TAIL, *argv)
        assert code == 0, err
        return json.loads(out)["rows"]

    return run


def test_prompts_and_texts_are_those_of_the_tokenizer(rows, tokenizer):
    first, second = rows("--prompt", "def add", "--prompt", "é 素")
    for row in (first, second):
        assert row["text"] == tokenizer.decode(row["tokens"])
        assert any(token > 256 for token in row["tokens"])
    assert (first["prompt"], second["prompt"]) == ("def add", "é 素")
    stop = re.search(r"[!-~]{2}", first["text"])
    stopped, _ = rows("--prompt", "def add", "--prompt", "é 素", "--stop-string", stop[0])
    assert stopped["text"] == first["text"][: stop.end()] and stopped["status"] == "STOP_SEQUENCE"
    assert stopped["tokens"] == first["tokens"][: len(stopped["tokens"])]


def test_the_template_is_put_around_a_prompt(jaxdec, rows, tokenizer, folder):
    prompts = ["--prompt", "def add", "--prompt", "é 素"]
    named = [w if w == "--prompt" else f"<|begin|>{w}<|end|>" for w in prompts]
    plain, said = rows(*named)[0], rows(*prompts, "--chat")[0]
    assert said["prompt"] == "def add"
    ids = tokenizer.encode("<|begin|>def add<|end|>")[0].tolist()
    assert ids[0] == ids[1], (
        "a text is begun once by a template, twice by a prompt that begins itself"
    )
    assert said["tokens"] != plain["tokens"]
    shown = ["--method", "autoregressive", "--model", folder / "causal", "--max-new-tokens", 12]
    code, out, _ = jaxdec("generate", *prompts, "--chat", "--seed", 1, "--no-stream", *shown)
    assert code == 0 and out.startswith(f"def add\n\n{said['text']}\né 素\n\n")


@pytest.mark.slow
def test_gaps_are_of_tokens(jaxdec, folder, tokenizer, tmp_path):
    marked = "def add(a, b):\n    <FILL:3> é\n    return <FILL:2>\n"
    (tmp_path / "file").write_text(marked)
    argv = [tmp_path / "file", "--method", "any-order", "--model", folder / "gaps"]
    code, out, err = jaxdec("infill", *argv, "--json", "--order")
    assert code == 0, err
    report = json.loads(out)
    filled = report["text"].encode()
    for gap, length in zip(report["gaps"], (3, 2), strict=True):
        assert len(gap["tokens"]) == len(gap["steps"]) == gap["length"] == length
        said = b"".join(tokenizer.pieces()[token] for token in gap["tokens"])
        assert said and gap["text"] == said.decode("utf-8", "replace")
    assert filled[:19] == marked[:19].encode() and report["gaps"][0]["start"] == 19
    assert report["tokens"] == 5 and report["forwards_per_token"] == 1
    assert jaxdec("infill", *argv, "--order")[0] == 0


def test_what_is_refused(jaxdec, folder, models):
    for argv, message in [
        (["--model", folder / "small"], "no tokenizer, and a vocabulary of 100"),
        (["--model", models / "target", "--chat"], "no chat template"),
        (["--model", folder / "causal", "--stop", "x<|end|>"], "<|end|>, a special token"),
        (["--model", folder / "causal", "--stop", ""], "stop string 0 is empty"),
    ]:
        code, out, err = jaxdec("generate", "--method", "lookup", "--prompt", "x", *argv)
        assert (code, out) == (2, "") and message in err and len(err.splitlines()) == 1
    (folder / "small" / "tokenizer.json").write_text("{}")
    code, _, err = jaxdec("generate", "--prompt", "x", "--model", folder / "small")
    assert code == 2 and "cannot be read" in err and len(err.splitlines()) == 1
