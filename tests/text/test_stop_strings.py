"""The table of stop strings, against a search in the text."""

import itertools

import numpy as np
import pytest

from jaxdec import text
from jaxdec.testing.battery.cases import Letters
from jaxdec.text.stop_strings import automaton, stop_table


class Long(Letters):
    """More tokens, some of them with a stop string in their middle."""

    def pieces(self):
        return (*super().pieces(), b"xabbax", b"abab" * 3, b"")


SETS = [
    ["ab"],
    ["abba", "bb"],
    ["aaa", "aab", "ba"],
    ["abab", "ba~", "b"],
    ["a"],
    ["abaabaaab", "aabaab", "baabaaa"],
]


@pytest.mark.parametrize("strings", SETS, ids=str)
def test_the_automaton_finds_what_a_search_finds(strings):
    moves = automaton([s.encode() for s in strings])
    assert moves[0].max() == 0 and (moves[1:] <= len(moves)).all()
    texts = np.random.default_rng(0).choice([*b"aaabbb~"], (300, 24))
    for said in [*itertools.product(b"ab", repeat=6), *texts.tolist()]:
        state = 1
        for end, byte in enumerate(said, 1):
            state = moves[state, byte]
            found = any(s.encode() in bytes(said[:end]) for s in strings)
            assert (state == 0) == found


def test_a_table_follows_tokens():
    tokenizer, sets = Long(), SETS[:4]
    table = stop_table(tokenizer, sets, rows=4, vocab_size=12)
    assert table.table.shape == (16, 12) and table.table.dtype == np.uint8
    assert len({*table.start.tolist()}) == 4
    rng, pieces = np.random.default_rng(0), [*tokenizer.pieces(), b"", b""]
    for row, strings in enumerate(sets):
        for _ in range(60):
            state, said = int(table.start[row]), b""
            for token in rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 10, 11], 8):
                state, said = int(table.table[state, token]), said + pieces[token]
                assert (state == 0) == any(s.encode() in said for s in strings)


def test_states_are_padded_and_tables_kept():
    one = stop_table(Letters(), ["ab", "ba"], 2)
    assert stop_table(Letters(), ["ba", "ab", "ab"], 1).table is one.table
    assert one.start.tolist() == [1, 1] and one.table.shape == (16, 7)
    assert stop_table(Letters(), "a" * 16, 1).table.shape == (32, 7)
    many = stop_table(text.BYTES, ["".join(map(chr, range(32, 32 + n))) for n in (90, 80, 70)], 1)
    assert many.table.shape == (128, 260) and many.table.dtype == np.uint8
    more = stop_table(text.BYTES, [chr(33 + n) * 9 for n in range(40)], 1)
    assert more.table.shape == (512, 260) and more.table.dtype == np.uint16


def test_rows_may_have_none():
    table = stop_table(Letters(), [["ab"], []], 2)
    state = int(table.start[1])
    assert (table.table[state] == state).all()


class Named(Letters):
    @property
    def special_tokens(self):
        return {"<|end|>": 6}


@pytest.mark.parametrize(
    ("strings", "message"),
    [
        ([""], "stop string 0 is empty"),
        (["ab", ""], "stop string 1 is empty"),
        ([["a"], "b"], r"strings, or a list of them a row, got \[\['a'\], 'b'\]"),
        ([["a"]], "lists for 1 rows; there are 2"),
        ([3], "must be a string, got 3"),
        ([["a"], [3]], "must be a string, got 3"),
        (["x<|end|>"], r"holds <\|end\|>, a special token .* eos=\[6\]"),
    ],
)
def test_what_is_no_stop_string(strings, message):
    with pytest.raises(ValueError, match=message):
        stop_table(Named(), strings, 2)


def test_tables_have_a_limit():
    with pytest.raises(ValueError, match="65000 bytes over 260000 tokens need a table of more"):
        stop_table(text.BYTES, ["ab" * 32500], 1, vocab_size=260000)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("strings", SETS[:5], ids=str)
def test_a_stream_shows_nothing_of_a_stop(strings, keep):
    strings = [s.encode() for s in strings]
    rng, tokenizer = np.random.default_rng(1), Letters()
    for _ in range(40):
        tokens = rng.integers(0, 6, 9).tolist()
        said = tokenizer.decode(tokens).encode()
        place = text.find_stop(said, strings)
        wanted = said if place is None else said[: place[keep]]
        stream = tokenizer.stream(stop_strings=strings, keep_stop=keep)
        shown = ""
        for token in tokens:
            shown += stream.add([token])
            assert wanted.startswith(shown.encode())
        assert (shown + stream.end()).encode() == wanted
        assert stream.stopped == (place is not None)


def test_the_first_stop_that_is_completed_counts():
    assert text.find_stop(b"xabcd", [b"abcd", b"bc"]) == (2, 4)
    assert text.find_stop(b"xabcd", [b"bc", b"abc"]) == (1, 4)
    assert text.find_stop(b"xab", [b"abc"]) is None
    assert text.find_stop(b"xab", []) is None
