"""Text as its tokens come: whole characters only, and nothing of a stop string that may still be completed."""

import codecs
from collections.abc import Iterable, Sequence
from typing import Protocol

import jax
import numpy as np


class Spells(Protocol):
    """What the text of tokens is made from."""

    def pieces(self) -> Sequence[bytes]:
        """The bytes of each token inside a text."""
        ...

    def first_piece(self, token: int) -> bytes:
        """The bytes of a token at the beginning of a text."""
        ...


class Speller:
    """The bytes of a row of tokens as they come; tokens outside of the vocabulary have none.

    Args:
      tokenizer: gives the bytes of each token.
      begins: whether a text begins here, or goes on.
    """

    def __init__(self, tokenizer: Spells, begins: bool = True):
        self._pieces, self._first = tokenizer.pieces(), tokenizer.first_piece
        self._begins = begins

    def __call__(self, ids: Iterable[int] | jax.Array) -> bytes:
        """The bytes of the next tokens, of one row; raises `ValueError` for other shapes."""
        row = np.asarray(ids if hasattr(ids, "__len__") else list(ids))
        if row.ndim != 1:
            raise ValueError(f"decode takes one row of tokens, got shape {list(row.shape)}")
        spelled = []
        for token in row.tolist():
            piece = self._pieces[token] if 0 <= token < len(self._pieces) else b""
            if self._begins and piece:
                piece, self._begins = self._first(token), False
            spelled.append(piece)
        return b"".join(spelled)


def find_stop(data: bytes, strings: Iterable[bytes]) -> tuple[int, int] | None:
    """Where the first stop string that is completed begins and ends; of several with one end the longest."""
    found = [(start + len(s), start) for s in strings if (start := data.find(s)) >= 0]
    return min(found)[::-1] if found else None


class TextStream:
    """The text of a row, of tokens as they come.

    What `add` and `end` return, joined, is the text of all tokens; no piece ends inside of a character, or inside of
    what may become a stop string.

    Args:
      tokenizer: gives the bytes of each token.
      begins: whether the text begins here, or continues another.
      stop_strings: nothing is given after the first of these that is completed.
      keep_stop: whether the stop string itself is given.

    Attributes:
      stopped: whether a stop string was completed.
    """

    def __init__(
        self,
        tokenizer: Spells,
        *,
        begins: bool = True,
        stop_strings: Sequence[bytes] = (),
        keep_stop: bool = False,
    ):
        self._spell = Speller(tokenizer, begins)
        self._strings, self._keep = tuple(stop_strings), keep_stop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""
        self.stopped = False

    def add(self, ids: Iterable[int], *, prompt: bool = False) -> str:
        """Takes more tokens; returns the text that is certain now.

        Args:
          ids: of the row.
          prompt: whether they are of a prompt, in which no stop string is looked for; it comes first.
        """
        if self.stopped:
            return ""
        if prompt:
            return self._decoder.decode(self._spell(ids))
        self._held += self._spell(ids)
        place = find_stop(self._held, self._strings)
        if place is not None:
            self.stopped = True
            certain, self._held = self._held[: place[self._keep]], b""
            return self._decoder.decode(certain, final=True)
        certain = self._held[: len(self._held) - self._unsure()]
        self._held = self._held[len(certain) :]
        return self._decoder.decode(certain)

    def end(self) -> str:
        """Says that no token follows; returns what was held back."""
        held, self._held = self._held, b""
        return self._decoder.decode(held, final=True)

    def _unsure(self) -> int:
        """The bytes at the end that a stop string may begin with."""
        longest = max(map(len, self._strings), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(s.startswith(self._held[-size:]) for s in self._strings if len(s) > size):
                return size
        return 0
