"""Stop strings end rows whatever tokens they come in, and text comes in whole characters."""

import dataclasses

import numpy as np
import pytest

import jaxdec
from jaxdec import drafters, text
from jaxdec.testing import oracles
from jaxdec.text import PieceTokenizer, find_stop

pytestmark = pytest.mark.usefixtures("quick_compilation")

PIECES = ("é".encode(), b"ab", b"a", b"b", "é".encode()[:1], "é".encode()[1:], b"bab", b"")
MODEL, TABLE = oracles.hash_oracle(len(PIECES), seed=3)
DRAFT = oracles.blend(TABLE, oracles.hash_oracle(len(PIECES), seed=4)[1], 0.3)
PARAMS = {"target": TABLE, "draft": DRAFT}
PLAIN = jaxdec.autoregressive(MODEL)
SPECULATIVE = jaxdec.speculative(MODEL, drafter=drafters.model(MODEL, length=4))
PROMPT = np.array([[1, 2, 0], [3, 6, 1], [4, 0, 0], [2, 2, 2]])
LENGTHS = np.array([3, 3, 1, 2])
STRINGS = [["abab", "éb"], ["bb", "baé"], [], ["a"]]


@dataclasses.dataclass(frozen=True)
class Pieces(PieceTokenizer):
    vocab_size: int = len(PIECES)
    eos = ()
    mask_token = None
    frame = ((), ())
    special_tokens = {}  # noqa: RUF012

    def pieces(self):
        return PIECES


OPTIONS = dict(rng=2, lengths=LENGTHS, max_new_tokens=[30, 32, 25, 31], temperature=1.2)


def generate(decoder=PLAIN, **options):
    return jaxdec.generate(decoder, PARAMS, PROMPT, **{**OPTIONS, **options})


def new(result):
    rows = zip(result.tokens, result.prompt_lengths, result.lengths, strict=True)
    return [np.asarray(row)[start:end].tolist() for row, start, end in rows]


def said(tokens):
    return b"".join(PIECES[token] for token in tokens)


@pytest.fixture(scope="module")
def free():
    return new(generate(stop_strings=["~"], tokenizer=Pieces()))  # which never comes


def test_pieces_alone_make_a_tokenizer():
    ids = Pieces().to_ids("ababéb")
    assert said(ids.tolist()) == "ababéb".encode() and len(ids) < 6
    assert Pieces().prompt_ids("b", True).tolist() == Pieces().to_ids("b").tolist()
    with pytest.raises(ValueError, match="no token stands for the text at byte 1"):
        Pieces().to_ids("aQ")


def test_rows_end_at_the_token_that_completes_a_string(free):
    for strings in (STRINGS, ["abab"], "é"):
        result = generate(SPECULATIVE, stop_strings=strings, tokenizer=Pieces())
        by_row = text.strings_by_row(strings, 4)
        found = 0
        for tokens, row, own, status in zip(new(result), free, by_row, result.status, strict=True):
            ends = [n for n in range(len(row) + 1) if find_stop(said(row[:n]), own)]
            assert tokens == (row[: ends[0]] if ends else row)
            assert (status is jaxdec.Status.STOP_SEQUENCE) == bool(ends)
            found += bool(ends)
        assert found
        texts = jaxdec.generated_texts(result, Pieces(), stop_strings=strings)
        kept = jaxdec.generated_texts(result, Pieces(), stop_strings=strings, keep_stop=True)
        for tokens, own, short, long in zip(new(result), by_row, texts, kept, strict=True):
            place = find_stop(said(tokens), own)
            whole = said(tokens)
            assert short == (whole[: place[0]] if place else whole).decode("utf-8", "replace")
            assert long == (whole[: place[1]] if place else whole).decode("utf-8", "replace")


@pytest.mark.parametrize("keep", [False, True])
def test_a_stream_is_the_text_of_the_whole_run(keep):
    options = dict(stop_strings=STRINGS, tokenizer=Pieces())
    wanted = jaxdec.generated_texts(
        generate(SPECULATIVE, **options), Pieces(), stop_strings=STRINGS, keep_stop=keep
    )
    shown = ["", "", "", ""]
    for piece in jaxdec.stream_text(
        SPECULATIVE, PARAMS, PROMPT, keep_stop=keep, **OPTIONS, **options
    ):
        assert any(piece)
        shown = [before + fresh for before, fresh in zip(shown, piece, strict=True)]
        assert all(whole.startswith(part) for whole, part in zip(wanted, shown, strict=True))
    assert shown == wanted


def test_hypotheses_have_the_strings_of_their_prompt():
    several = generate(stop_strings=STRINGS, tokenizer=Pieces(), hypotheses=2)
    one = generate(stop_strings=STRINGS, tokenizer=Pieces())
    assert new(several)[::2] == new(one)
    texts = jaxdec.generated_texts(several, Pieces(), stop_strings=STRINGS, hypotheses=2)
    assert texts[::2] == jaxdec.generated_texts(one, Pieces(), stop_strings=STRINGS)
    for row, own in zip(new(several)[1::2], text.strings_by_row(STRINGS, 4), strict=True):
        assert find_stop(said(row[:-1]), own) is None


def test_gaps_end_at_strings_by_rank():
    model, table = oracles.hash_oracle(len(PIECES), seed=3)
    decoder, params = jaxdec.autoregressive(model), {"target": table}
    tokens, visible = np.ones((2, 24), int), np.arange(24) < np.array([[4], [6]])
    options = dict(rng=1, temperature=1.3, tokenizer=Pieces())
    free, held = (
        jaxdec.infill(decoder, params, tokens, visible, stop_strings=strings, **options)
        for strings in (["~"], [["ab", "ba"], ["~"]])
    )
    row, short = np.asarray(free.tokens)[0], np.asarray(held.known).sum(1)
    ends = [n for n in range(4, 25) if find_stop(said(row[4:n]), [b"ab", b"ba"])]
    assert short.tolist() == [ends[0], 24] and ends[0] < 24
    np.testing.assert_array_equal(held.tokens[0, : ends[0]], row[: ends[0]])
    np.testing.assert_array_equal(held.tokens[1], free.tokens[1])


def test_other_strings_of_the_same_size_compile_nothing():
    generate(stop_strings=["abab"], tokenizer=Pieces())
    before = jaxdec.decoding.loop._run._cache_size()
    generate(stop_strings=STRINGS, tokenizer=Pieces())
    generate(stop_strings=["bb"], tokenizer=Pieces())
    assert jaxdec.decoding.loop._run._cache_size() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(stop_strings=["a"]), "needs the model's tokenizer"),
        (dict(stop_strings=[""], tokenizer=Pieces()), "stop string 0 is empty"),
        (dict(stop_strings=[["a"]], tokenizer=Pieces()), "lists for 1 rows; there are 4"),
        (dict(stop_strings=5, tokenizer=Pieces()), "stop_strings must be strings"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        generate(**options)
    with pytest.raises(ValueError, match=message):
        jaxdec.stream_text(PLAIN, PARAMS, PROMPT, **OPTIONS, **{"tokenizer": None, **options})
