"""Tokenizers of folders, against the library that made them."""

import json

import numpy as np
import pytest

from jaxdec import text
from jaxdec.text.huggingface import HuggingFaceTokenizer

pytest.importorskip("tokenizers")

from tests.text.tokenizers_made import KINDS, SAMPLES, byte_level, save, word_pieces


@pytest.fixture(scope="module")
def made():
    return {name: make() for name, make in KINDS.items()}


@pytest.fixture(params=KINDS)
def pair(request, made):
    """A tokenizer of the library and ours."""
    return made[request.param], HuggingFaceTokenizer(made[request.param])


@pytest.mark.parametrize("sample", SAMPLES)
def test_tokens_and_texts_are_those_of_the_library(pair, sample):
    library, ours = pair
    plain, framed = library.encode(sample, add_special_tokens=False).ids, library.encode(sample).ids
    np.testing.assert_array_equal(ours.to_ids(sample), np.array(plain, np.int32))
    np.testing.assert_array_equal(ours.to_ids(sample.encode()), np.array(plain, np.int32))
    np.testing.assert_array_equal(ours.encode(sample, bos=False)[0], np.array(plain, np.int32))
    np.testing.assert_array_equal(ours.encode(sample)[0], np.array(framed, np.int32))
    for ids in (plain, framed, plain[1:], framed[::-1]):
        if "\ufffd" in library.decode(ids) or any(n >= ours.vocab_size for n in ids):
            continue  # half characters are replaced in another way by some
        assert ours.decode(ids) == library.decode(ids)


def test_every_token_alone_is_that_of_the_library(pair):
    library, ours = pair
    assert len(ours.pieces()) == ours.vocab_size == library.get_vocab_size()
    one = library.encode("a", add_special_tokens=False).ids
    begun = len(library.decode(one))
    for token in range(ours.vocab_size):
        if "\ufffd" not in library.decode([token]):
            assert ours.decode([token]) == library.decode([token])
        if "\ufffd" not in library.decode([*one, token]):
            assert ours.decode([token], begins=False) == library.decode([*one, token])[begun:]


def test_round_trips(made):
    for name in ("byte level", "byte fallback"):
        ours = HuggingFaceTokenizer(made[name])
        for sample in SAMPLES:
            assert ours.decode(ours.encode(sample)[0]) == sample
            assert ours.decode(ours.encode(sample, bos=False)[0]) == sample


def test_a_stream_is_the_whole_text_at_every_cut(pair):
    _, ours = pair
    for sample in SAMPLES:
        ids = ours.to_ids(sample).tolist()
        for cut in range(len(ids) + 1):
            stream = ours.stream()
            assert stream.add(ids[:cut]) + stream.add(ids[cut:]) + stream.end() == ours.decode(ids)
        stream = ours.stream()
        pieces = [stream.add([token]) for token in ids]
        assert "".join(pieces) + stream.end() == ours.decode(ids)
        assert not any("\ufffd" in piece for piece in pieces)


def test_a_batch_is_padded_on_the_right(made):
    ours = HuggingFaceTokenizer(made["byte level"], {"pad_token": "<|end|>"})
    texts = ["def", "", "return a + b"]
    tokens, lengths = ours.encode_batch(texts)
    for row, length, sample in zip(tokens, lengths, texts, strict=True):
        np.testing.assert_array_equal(row[:length], ours.encode(sample)[0])
        assert (row[length:] == ours.special_tokens["<|end|>"]).all()
    assert tokens.dtype == lengths.dtype == np.int32


def test_roles_and_special_tokens(tmp_path, made):
    config = {
        "eos_token": {"content": "<|end|>", "special": True},
        "bos_token": "<|begin|>",
        "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
    }
    ours = text.load(save(tmp_path / "a", made["byte level"], config))
    begin, end, mask = (ours.special_tokens[f"<|{n}|>"] for n in ("begin", "end", "mask"))
    assert (ours.eos, ours.mask_token) == ((end,), mask)
    assert ours.frame == ((begin,), ())
    assert ours.encode("a", bos=True).tolist() == ours.encode("a").tolist()
    assert ours.decode([begin, *ours.to_ids("hi").tolist(), end, -1, 10**6]) == "hi"
    said = ours.chat([{"role": "user", "content": "hi"}])
    assert said == "<|begin|>hi<|end|>"
    assert ours.to_ids(said).tolist() == [begin, *ours.to_ids("hi").tolist(), end]
    template = "{{ messages[0].role }}"
    ours = text.load(save(tmp_path / "b", made["byte level"], config, chat_template=template))
    assert ours.chat([{"role": "user", "content": "hi"}]) == "user"
    assert ours.decode(ours.to_ids("<tool> x")) == "<tool> x"  # added, and text
    plain = text.load(save(tmp_path / "c", made["word pieces"], {"mask_token": "[MASK]"}))
    cls, sep = plain.special_tokens["[CLS]"], plain.special_tokens["[SEP]"]
    assert plain.frame == ((cls,), (sep,)) and plain.eos == ()
    assert plain.mask_token == plain.special_tokens["[MASK]"]


def test_old_folders(tmp_path):
    """Vocabularies and merges in files of their own give the tokens of the whole file."""
    library, folder = byte_level(), tmp_path / "gpt2"
    folder.mkdir()
    library.model.save(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    ours = text.load(folder)
    assert ours.eos == (library.token_to_id("<|end|>"),)
    for sample in SAMPLES:
        assert ours.to_ids(sample).tolist() == library.encode(sample, add_special_tokens=False).ids
        assert ours.encode(sample).tolist() == [ours.to_ids(sample).tolist()]  # nothing begins it
    library, folder = word_pieces(), tmp_path / "bert"
    folder.mkdir()
    library.model.save(str(folder))
    ours = text.load(folder)
    assert ours.mask_token == library.token_to_id("[MASK]")
    for sample in SAMPLES:
        assert ours.encode(sample)[0].tolist() == library.encode(sample).ids


def test_folders_that_cannot_be_read(tmp_path, made):
    assert text.load(tmp_path) is None
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a")
    with pytest.raises(ValueError, match=r"tokenizer.model alone, .* save it as tokenizer.json"):
        text.load(tmp_path)
    folder = save(tmp_path / "a", made["word pieces"])
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config.json is no JSON"):
        text.load(folder)
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"the tokenizer in .*a cannot be read"):
        text.load(folder)
    held = json.loads(made["word pieces"].to_str())
    held["decoder"] = {
        "type": "CTC",
        "pad_token": "x",
        "word_delimiter_token": "|",
        "cleanup": True,
    }
    (folder / "tokenizer.json").write_text(json.dumps(held))
    with pytest.raises(ValueError, match="decoder is a 'CTC', which is not known"):
        text.load(folder)


def test_what_cannot_be_encoded(made):
    plain = HuggingFaceTokenizer(made["metaspace"])
    with pytest.raises(ValueError, match="no token that begins a text"):
        plain.encode("a", bos=True)
    with pytest.raises(ValueError, match="not UTF-8 at byte 1"):
        plain.to_ids(b"a\xff")
    with pytest.raises(ValueError, match="no chat template"):
        plain.chat([])
