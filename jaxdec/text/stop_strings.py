"""Stop strings, whatever tokens they come in: a table that a decoder follows from token to token.

An automaton of Aho and Corasick (1975) reads bytes: its states are the beginnings of the strings that hold no whole
string, and it is in the longest of them that the text ends with. Composed with the bytes of each token it reads tokens:

    state' = table[state, token]        state 0: a string is complete

Legend: B rows, S states, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxdec.text.contract import Tokenizer

LARGEST = 1 << 28
"""Bytes of a table at most."""

SMALLEST = 16
"""States of a table at least: other strings of the same size are served by the same compiled program."""


@dataclasses.dataclass(frozen=True)
class StopTable:
    """What rows follow.

    Attributes:
      table: unsigned `[S, V]`, the state after each token; 0 once a string is complete. S is a power of two.
      start: int32 `[B]`, the state of each row before its first new token.
    """

    table: np.ndarray
    start: np.ndarray


def strings_by_row(stop_strings: Any, rows: int) -> list[tuple[bytes, ...]]:
    """The stop strings of each row, as bytes.

    Args:
      stop_strings: one string, or several for all rows, or a list of strings a row.
      rows: B.

    Raises:
      ValueError: if a string is empty or no string, or there are lists for another number of rows.
    """
    if isinstance(stop_strings, str | bytes):
        stop_strings = [stop_strings]
    if not isinstance(stop_strings, list | tuple):
        raise ValueError(f"stop_strings must be strings, got {_shown(stop_strings)}")
    given = list(stop_strings)
    lists = [isinstance(each, list | tuple) for each in given]
    if not any(lists):
        return [_as_bytes(given)] * rows
    if not all(lists):
        raise ValueError(
            f"stop_strings must be strings, or a list of them a row, got {_shown(given)}"
        )
    if len(given) != rows:
        raise ValueError(f"stop_strings has lists for {len(given)} rows; there are {rows}")
    return [_as_bytes(each) for each in given]


def _shown(value: Any) -> str:
    """A value on one line, cut where it is long."""
    return " ".join(repr(value).split())[:80]


def _as_bytes(strings: Any) -> tuple[bytes, ...]:
    found = []
    for string in strings:
        if not isinstance(string, str | bytes):
            raise ValueError(f"a stop string must be a string, got {_shown(string)}")
        found.append(string.encode() if isinstance(string, str) else string)
        if not string:
            raise ValueError(f"stop string {len(found) - 1} is empty")
    return tuple(sorted({*found}))


def stop_table(
    tokenizer: Tokenizer, stop_strings: Any, rows: int, vocab_size: int | None = None
) -> StopTable:
    """The table of some stop strings; it is kept for the next call with the same ones.

    Args:
      tokenizer: says what bytes each token stands for.
      stop_strings: as for `strings_by_row`.
      rows: B.
      vocab_size: V, of the model; the tokenizer's if not given. Tokens that it does not know stand for nothing.

    Raises:
      ValueError: for impossible strings, such as one with the name of a special token, which is no text; or if the
        table would be too large.
    """
    by_row = strings_by_row(stop_strings, rows)
    for name, token in tokenizer.special_tokens.items():
        for string in {s for strings in by_row for s in strings}:
            if name.encode() in string:
                raise ValueError(
                    f"stop string {string.decode('utf-8', 'replace')!r} holds {name}, a special token that is no "
                    f"text; stop at the token itself, eos=[{token}] or stop=[[{token}]]"
                )
    size = tokenizer.vocab_size if vocab_size is None else vocab_size
    sets = tuple(sorted({*by_row}))
    table, starts = _table(tokenizer, sets, size)
    start = dict(zip(sets, starts, strict=True))
    return StopTable(table, np.array([start[strings] for strings in by_row], np.int32))


@functools.lru_cache(maxsize=8)
def _table(
    tokenizer: Tokenizer, sets: tuple[tuple[bytes, ...], ...], vocab_size: int
) -> tuple[np.ndarray, tuple[int, ...]]:
    """The table of several sets of strings, each with states of its own, and where each begins."""
    total = sum(len(string) for strings in sets for string in strings)
    if _width(total) * vocab_size > LARGEST:
        raise ValueError(
            f"stop strings of {total} bytes over {vocab_size} tokens need a table of more than {LARGEST} bytes"
        )
    parts, starts, count = [np.zeros((1, 256), np.int32)], [], 1
    for strings in sets:
        moves = automaton(strings)[1:]
        # A state of a set is counted on from the states before; 0 is the end of all.
        parts.append(np.where(moves > 0, moves + (count - 1), 0))
        starts.append(count)
        count += len(moves)
    states = max(SMALLEST, 1 << (count - 1).bit_length())
    kind = np.min_scalar_type(states - 1)
    table = np.zeros((states, vocab_size), kind)
    table[:count] = over_tokens(np.concatenate(parts).astype(kind), tokenizer.pieces(), vocab_size)
    table.flags.writeable = False
    return table, tuple(starts)


def _width(states: int) -> int:
    """Bytes a token of a table with as many states at most."""
    return states * np.min_scalar_type(states).itemsize


def automaton(strings: Iterable[bytes]) -> np.ndarray:
    """The automaton of some strings over bytes.

    Args:
      strings: not empty each; none for an automaton that stays where it is.

    Returns:
      int32 `[S, 256]`, the next state by state and byte: 0 once a string is complete, for good; 1 is the start.
    """
    strings = tuple(strings)
    moves = [np.zeros(256, np.int32), np.ones(256, np.int32)]
    fails, level = [0, 1], {b"": 1}
    while level:  # beginnings of one length, shortest first
        longer: dict[bytes, int] = {}
        for begun, state in level.items():
            for string in strings:
                if not string.startswith(begun):
                    continue
                byte = string[len(begun)]
                grown, fail = begun + string[len(begun) : len(begun) + 1], moves[state][byte]
                if grown in longer:
                    continue
                if fail == 0 or grown in strings:
                    moves[state][byte] = 0
                    continue
                # Where the automaton would be without this beginning; the start has none before it.
                moves[state][byte] = longer[grown] = len(moves)
                moves.append(moves[fail].copy())
                fails.append(int(fail))
        # A shorter beginning may have got its own next states only after it was copied from.
        for state in longer.values():
            moves[state][:] = moves[fails[state]]
        level = longer
    return np.stack(moves)


def over_tokens(moves: np.ndarray, pieces: Sequence[bytes], vocab_size: int) -> np.ndarray:
    """An automaton over bytes, `[S, 256]`, as one over tokens: `[S, vocab_size]` of the same type."""
    states = len(moves)
    lengths = np.zeros(vocab_size, np.int64)
    known = list(pieces[:vocab_size])
    lengths[: len(known)] = [len(piece) for piece in known]
    order = np.argsort(-lengths, kind="stable")  # longest first: those that go on are at the front
    data = np.frombuffer(b"".join(known) or b"\0", np.uint8)
    offsets = np.cumsum(lengths) - lengths
    table = np.repeat(np.arange(states, dtype=moves.dtype)[:, None], vocab_size, axis=1)
    sorted_lengths, flat = lengths[order], moves.reshape(-1)
    for place in range(int(lengths.max(initial=0))):
        active = int(np.searchsorted(-sorted_lengths, -place, side="left"))
        byte = data[offsets[order[:active]] + place]
        table[:, :active] = flat[table[:, :active].astype(np.int32) * 256 + byte]
    found = np.empty_like(table)
    found[:, order] = table
    return found
