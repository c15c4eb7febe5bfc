"""Automata over tokens: explored, trimmed, of regular expressions and of JSON schemas."""

import itertools
import json
import re

import numpy as np
import pytest

from jaxdec import text
from jaxdec.testing.battery.cases import PIECES, VOCAB, Letters
from jaxdec.text import Automaton, json_schema, regex, trimmed
from jaxdec.text.automaton import NEVER


def brackets(depth, vocab_size=3):
    """Nested brackets, 0 opens and 1 closes, at most so deep; 2 is no bracket."""

    def step(state, token):
        after = state + (1, -1, 99)[token] if token < 3 else 99
        return after if 0 <= after <= depth else None

    return Automaton.explore(0, step, lambda state: state == 0, vocab_size)


def test_an_explored_automaton_is_its_function():
    automaton = brackets(3)
    assert automaton.next.shape == (5, 3) and automaton.next.dtype == np.uint8
    for size in range(7):
        for word in itertools.product(range(3), repeat=size):
            depths = np.cumsum([0, *((1, -1, 99)[token] for token in word)])
            legal = depths.min() >= 0 and depths.max() <= 3 and depths[-1] == 0
            assert automaton.accepts(word) == legal, word
    assert automaton.shortest[automaton.after([0, 0])] == 2
    assert automaton.shortest[0] == NEVER and automaton.after([1]) == automaton.after([2]) == 0
    with pytest.raises(ValueError, match="more than 4 states"):
        Automaton.explore(0, lambda state, token: state + 1, lambda state: True, 2, most_states=4)


def test_what_leads_nowhere_is_dead():
    # 1 -a-> 2 -a-> 3 (accepts), 1 -b-> 4 -> 4: nothing is accepted from 4; 5 is never reached.
    table = [[3, 3], [2, 4], [3, 0], [0, 0], [4, 4], [3, 3]]
    automaton = trimmed(table, [True, False, False, True, False, True], 1)
    assert len(automaton.next) == 4
    assert automaton.accepts([0, 0]) and not automaton.accepts([1]) and automaton.after([1]) == 0
    for wrong, message in (
        (([[0, 0], [0, 0]], [False, False], 1), "accepts no text"),
        (([[0, 0], [2, 0]], [False, True], 1), "2 states leads to state 2"),
        (([[0, 0], [0, -1]], [False, True], 1), "leads to state -1"),
        (([[0, 0]], [True, False], 0), r"shape \[1\]"),
        (([[0, 0]], [True], 3), r"in \[0, 1\), got 3"),
        (([0, 0], [True], 0), r"states \[S, V\]"),
    ):
        with pytest.raises(ValueError, match=message):
            trimmed(*wrong)


@pytest.mark.parametrize(
    "pattern", ["(ab)*", "a|ab|(aab)*?", "a(a|b)b+", "", "[ab]{2,4}", "~?", "b.a", "[^a]*"]
)
def test_a_pattern_over_tokens_is_the_pattern_over_their_bytes(pattern):
    automaton = regex(pattern, Letters())
    accepted = 0
    for size in range(5):
        for word in itertools.product(range(VOCAB), repeat=size):
            said = b"".join(PIECES[token] for token in word)
            legal = b"" not in (PIECES[token] for token in word)
            legal = legal and re.fullmatch(pattern.encode(), said) is not None
            assert automaton.accepts(word) == legal, (word, said)
            accepted += legal
    assert accepted
    assert regex(pattern, Letters()) is automaton


def test_bytes_of_a_character_come_one_by_one():
    automaton = regex("(é|日)+!", text.BYTES)
    for said in ("é!", "日é!"):
        assert automaton.accepts(np.asarray(text.BYTES.to_ids(said)).tolist())
    lead = np.asarray(text.BYTES.to_ids("日")).tolist()
    assert automaton.after(lead[:2]) != 0 and not automaton.accepts(lead[:2])
    assert automaton.shortest[automaton.start] == 3


def test_a_schema_accepts_its_documents():
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["ab", "c"]}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    automaton = json_schema(schema, text.BYTES)
    assert automaton is json_schema(json.dumps(schema), text.BYTES)
    ids = lambda said: np.asarray(text.BYTES.to_ids(said)).tolist()
    assert automaton.accepts(ids('{"name": "ab", "age": -3}'))
    assert automaton.accepts(ids('{"name":"c","age":12}'))
    for wrong in ('{"name": "ab"}', '{"name": "x", "age": 1}', '{"name": "c", "age": 01}'):
        assert not automaton.accepts(ids(wrong))
    wide = json_schema(schema, text.BYTES, vocab_size=text.BYTES.vocab_size + 5)
    assert not wide.next[:, text.BYTES.vocab_size :].any()
    for special in text.BYTES.special_tokens.values():
        assert not automaton.next[:, special].any()


def test_wrong_patterns_are_refused():
    for given, message in (
        ("(", "no regular expression"),
        ("a)(b", "no regular expression"),
        ("(?!a)b", "no regular expression"),
        (3, "must be a string"),
        ("c", "accepts no text"),  # which no token can spell
    ):
        with pytest.raises(ValueError, match=message):
            regex(given, Letters())
    for given in ('{"type": "objct"}', "{", {"type": 3}):
        with pytest.raises(ValueError, match="no JSON schema"):
            json_schema(given, Letters())
    for schema in ({}, {"type": "array"}, {"type": "object", "properties": {"a": {}}}):
        with pytest.raises(ValueError, match="leaves open what an object or a list holds"):
            json_schema(schema, Letters())
    with pytest.raises(ValueError, match="over 100000000 tokens needs a table of more than"):
        regex("a+b", Letters(), vocab_size=100_000_000)
