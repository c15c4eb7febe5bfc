"""Regular expressions and JSON schemas as automata over tokens.

A pattern becomes an automaton over bytes (by `outlines-core`, the extra `grammar`), and that one over tokens:
a token leads where its bytes lead. Hence any way to spell an accepted text in tokens is accepted, not only the one that
the tokenizer would choose: *canonical tokenization is not promised*. A model gives other spellings little weight, but a
constraint renormalises what little there is.

Legend: S states, V vocabulary.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdec.text.automaton import DEAD, LARGEST, Automaton, trimmed
from jaxdec.text.contract import Tokenizer
from jaxdec.text.stop_strings import over_tokens

MOST_OPEN = 16
"""Objects of any keys that a schema may hold: one that leaves values open has more, and an automaton takes minutes."""


def regex(pattern: str, tokenizer: Tokenizer, *, vocab_size: int | None = None) -> Automaton:
    """The automaton of all texts that match a regular expression as a whole.

    Bytes of the text decide, whatever tokens spell them: canonical tokenization is not promised. No text holds the
    character of number 0. Tokens that stand for no text, such as special ones, are never accepted; the tokens that end
    a row are those of the request. Patterns of many thousands of states take seconds to minutes, as `a{16000}` does.

    Args:
      pattern: in the syntax of Rust's `regex`: no look-around, no references.
      tokenizer: says what bytes each token stands for.
      vocab_size: V, of the model; the tokenizer's if not given. Tokens that it does not know are never accepted.

    Returns:
      The automaton; it is kept for the next call with the same arguments.

    Raises:
      ValueError: for no pattern, one that no text of these tokens matches, a table of more than 2^28 bytes, or where
        the extra `grammar` is not installed.
    """
    if not isinstance(pattern, str):
        raise ValueError(f"a regular expression must be a string, got {_shown(pattern)}")
    size = tokenizer.vocab_size if vocab_size is None else vocab_size
    return _compiled(pattern, tokenizer, size)


def json_schema(
    schema: str | Mapping[str, Any],
    tokenizer: Tokenizer,
    *,
    vocab_size: int | None = None,
    whitespace: str | None = None,
) -> Automaton:
    """The automaton of all JSON texts of a schema, properties in the order of the schema.

    What of JSON Schema is known is what `outlines-core` makes a regular expression of: no recursion beyond a depth.
    Schemas that leave open what an object or a list holds are refused.

    Args:
      schema: as JSON text, or as the mapping that it stands for.
      tokenizer: as for `regex`.
      vocab_size: as for `regex`.
      whitespace: a regular expression for what may stand between the parts of the text; one blank or none if not given.

    Raises:
      ValueError: for what is no schema, or as `regex`.
    """
    text = schema if isinstance(schema, str) else json.dumps(schema)
    try:
        pattern = _library().json_schema.build_regex_from_schema(text, whitespace)
    except (ValueError, TypeError) as error:
        raise ValueError(f"no JSON schema: {_line(error)}: got {_shown(schema)}") from error
    keys = f'bfnrt])*"{"[ ]?" if whitespace is None else whitespace}:'  # any key of an object
    if pattern.count(keys) > MOST_OPEN:
        raise ValueError(
            "the JSON schema leaves open what an object or a list holds, which is too much for a table: say so by "
            f"properties, additionalProperties or items: got {_shown(schema)}"
        )
    return regex(pattern, tokenizer, vocab_size=vocab_size)


@functools.lru_cache(maxsize=8)
def _compiled(pattern: str, tokenizer: Tokenizer, vocab_size: int) -> Automaton:
    by_byte = _over_bytes(pattern)
    states = len(by_byte.next)
    if by_byte.next.itemsize * states * vocab_size > LARGEST:
        raise ValueError(
            f"an automaton of {states} states over {vocab_size} tokens needs a table of more than {LARGEST} bytes"
        )
    pieces = tokenizer.pieces()[:vocab_size]
    table = over_tokens(by_byte.next, pieces, vocab_size)
    silent = np.ones(vocab_size, bool)
    silent[: len(pieces)] = [not piece for piece in pieces]
    table[:, silent] = DEAD  # or a row could go on for ever and say nothing
    return trimmed(table, by_byte.accepting, by_byte.start)


def _over_bytes(pattern: str) -> Automaton:
    """The automaton of a regular expression over bytes, of which 0 is none.

    The library finds matches, and drops what leads from a text that matches to one that does not, and what a lazy
    repetition would rather leave out. So it is asked for texts with a zero byte behind them: no beginning of those
    matches, and a text is accepted where that byte would end it.
    """
    library, end = _library(), 256
    letters = library.Vocabulary(end, {bytes([byte]): [byte] for byte in range(256)})
    try:
        library.Index(pattern, letters)  # alone: brackets may not close those around it
        index = library.Index(f"(?:{pattern})\\x00", letters)
    except ValueError as error:
        raise ValueError(f"no regular expression: {_line(error)}: got {_shown(pattern)}") from error
    moves, final = index.get_transitions(), set(index.get_final_states())
    numbers = {state: i for i, state in enumerate({index.get_initial_state(), *moves, *final}, 1)}
    table = np.zeros((len(numbers) + 1, 256), np.int32)
    accepting = np.zeros(len(table), bool)
    for state, row in moves.items():
        accepting[numbers[state]] = row.get(0) in final
        for byte, after in row.items():
            if byte not in (0, end):
                table[numbers[state], byte] = numbers[after]
    return trimmed(table, accepting, numbers[index.get_initial_state()])


def _library() -> Any:
    try:
        import outlines_core
        import outlines_core.json_schema
    except ImportError:
        raise ValueError(
            "regular expressions and JSON schemas need outlines-core: pip install 'jaxdec[grammar]'"
        ) from None
    return outlines_core


def _line(error: Exception) -> str:
    """What the library says, on one line."""
    return " ".join(str(error).split())


def _shown(value: Any) -> str:
    """A value on one line, cut where it is long."""
    return " ".join(repr(value).split())[:80]
