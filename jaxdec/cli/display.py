"""Text as it is made: whole characters only, coloured by who wrote them."""

import codecs
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

PROMPT, DRAFTED, OWN = "dim", "green", "bright_magenta"

LEGEND = Text.assemble(
    ("prompt", PROMPT), "  ", ("drafted and accepted", DRAFTED), "  ", ("the target's own", OWN)
)


class Page:
    """Prints the texts of a batch one after the other: the first unfinished one as it grows.

    Args:
      console: where to. A terminal gets colours and visible control characters, anything else the text itself.
      rows: texts.
    """

    def __init__(self, console: Console, rows: int):
        self._console = console
        self._decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in range(rows)]
        self._waiting: list[list[tuple[str, str]]] = [[] for _ in range(rows)]
        self._ended = [False] * rows
        self._current = 0

    def add(self, row: int, tokens: Iterable[int], styles: Iterable[str]) -> None:
        """Takes more tokens of a row; special tokens are dropped, and half a character waits for its rest."""
        for token, style in zip(tokens, styles, strict=True):
            if 0 <= token < 256:
                self._write(row, self._decoders[row].decode(bytes([token])), style)
        self._flush()

    def end(self, row: int) -> None:
        """Says that a row is complete; the next one takes its place."""
        if self._ended[row]:
            return
        self._write(row, self._decoders[row].decode(b"", final=True), OWN)
        self._ended[row] = True
        self._flush()

    def _write(self, row: int, text: str, style: str) -> None:
        waiting = self._waiting[row]
        if not text:
            return
        if waiting and waiting[-1][1] == style:
            waiting[-1] = (waiting[-1][0] + text, style)
        else:
            waiting.append((text, style))

    def _flush(self) -> None:
        while self._current < len(self._ended):
            row = self._current
            for text, style in self._waiting[row]:
                self._print(text, style)
            self._waiting[row].clear()
            if not self._ended[row]:
                break
            self._print("\n", "")
            self._current += 1
        self._console.file.flush()

    def _print(self, text: str, style: str) -> None:
        if self._console.is_terminal:
            safe = "".join(_visible(c) for c in text)
            self._console.print(Text(safe, style), end="", soft_wrap=True)
        else:
            self._console.file.write(text)


def _visible(character: str) -> str:
    """Control characters of a model's text must not steer the terminal: they are shown as pictures."""
    code = ord(character)
    if character in "\n\t" or not (code < 32 or 127 <= code < 160):
        return character
    return chr(0x2400 + code) if code < 32 else "\N{REPLACEMENT CHARACTER}"
