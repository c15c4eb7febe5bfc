"""Bytes as tokens."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import text


def test_the_vocabulary():
    assert (text.BOS, text.EOS, text.PAD, text.MASK) == (256, 257, 258, 259)
    assert text.VOCAB_SIZE == 260


@pytest.mark.parametrize("sample", ["", "def f():\n", "naïve ≠ 素朴 🙂", "\0\x7f"])
def test_round_trip(sample):
    tokens = text.encode(sample)
    assert tokens.dtype == jnp.int32
    assert tokens.shape == (1, len(sample.encode()))
    assert text.decode(tokens[0]) == sample
    assert text.decode(text.encode(sample, bos=True)[0]) == sample
    assert text.decode(text.to_ids(sample)) == sample


def test_bytes_are_taken_as_they_are():
    np.testing.assert_array_equal(text.encode(bytes(range(256)))[0], np.arange(256))
    np.testing.assert_array_equal(text.encode(b"ab", bos=True), [[text.BOS, 97, 98]])


def test_special_tokens_are_dropped_and_broken_text_is_replaced():
    special = [text.BOS, 104, text.MASK, 105, text.EOS, text.PAD]
    assert text.decode(special) == "hi"
    assert text.decode([0xE2, 0x82]) == "\N{REPLACEMENT CHARACTER}"
    assert text.decode([]) == ""
    assert text.decode(iter([104, 105])) == "hi"
    assert text.decode([-1, 104, 300]) == "h"


def test_a_batch_is_padded_on_the_right():
    tokens, lengths = text.encode_batch(["abc", "", "é"], bos=True)
    np.testing.assert_array_equal(lengths, [4, 1, 3])
    np.testing.assert_array_equal(
        tokens,
        [
            [text.BOS, 97, 98, 99],
            [text.BOS, text.PAD, text.PAD, text.PAD],
            [text.BOS, 0xC3, 0xA9, text.PAD],
        ],
    )
    assert tokens.dtype == lengths.dtype == jnp.int32


def test_errors():
    with pytest.raises(ValueError, match="at least one text, got 0"):
        text.encode_batch([])
    with pytest.raises(ValueError, match=r"one row of tokens, got shape \[1, 2\]"):
        text.decode(text.encode("ab"))
    with pytest.raises(ValueError, match="a list of texts, got one text, 'ab'"):
        text.encode_batch("ab")
    with pytest.raises(ValueError, match="no chat template"):
        text.BYTES.chat([{"role": "user", "content": "hi"}])


def test_the_vocabulary_as_a_tokenizer():
    assert text.ByteTokenizer() == text.BYTES and hash(text.BYTES) == hash(text.ByteTokenizer())
    assert text.BYTES.eos == (text.EOS,) and text.BYTES.mask_token == text.MASK
    assert text.BYTES.frame == ((text.BOS,), (text.EOS,))
    pieces = text.BYTES.pieces()
    assert len(pieces) == text.BYTES.vocab_size == text.VOCAB_SIZE
    assert b"".join(pieces) == bytes(range(256))
