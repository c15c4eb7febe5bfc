"""Text as it is made: whole characters only, coloured by who wrote them."""

import bisect
import codecs
import contextlib
import itertools
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn

from rich.console import Console
from rich.live import Live
from rich.text import Text

from jaxdec.text import BYTES, Tokenizer

PROMPT, DRAFTED, OWN = "dim", "green", "bright_magenta"
UNFILLED = "·"
DIGITS = string.digits + string.ascii_lowercase
STEPS = ("blue", "cyan", "green", "yellow", "red", "magenta")
"""Styles of steps, in turn."""
FRESH = "reverse"
"""Beside the style of its step, that of a position which has just been filled."""

WRITERS = Text.assemble(("drafted and accepted", DRAFTED), "  ", ("the target's own", OWN))
LEGEND = Text.assemble(("prompt", PROMPT), "  ", WRITERS)


class _Console(Console):
    """A console that leaves a broken pipe to the command line: rich would end the process with 1."""

    def on_broken_pipe(self) -> NoReturn:
        """Raises it again."""
        raise


def output() -> Console:
    """Where the text goes: stdout as it is, no markup in it."""
    return _Console(highlight=False, markup=False)


def figures() -> Console:
    """Where figures and progress go: stderr."""
    return _Console(highlight=False, markup=False, stderr=True, soft_wrap=True)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Shows on a terminal that something takes its time; gives what changes the words."""
    console = figures()
    if not console.is_terminal:
        yield lambda what: None
        return
    with console.status(f"{what} ...") as status:
        yield lambda what: status.update(f"{what} ...")


class Page:
    """Prints the texts of a batch one after the other: the first unfinished one as it grows.

    Args:
      console: where to. A terminal gets colours and visible control characters, anything else the text itself.
      rows: texts.
      tokenizer: gives the text of tokens.
      stop_strings: nothing of a row is shown behind the first of these in it.
    """

    def __init__(
        self,
        console: Console,
        rows: int,
        tokenizer: Tokenizer = BYTES,
        stop_strings: Sequence[bytes] = (),
    ):
        self._console = console
        self._streams = [
            tokenizer.stream(stop_strings=stop_strings, keep_stop=True) for _ in range(rows)
        ]
        self._waiting: list[list[tuple[str, str]]] = [[] for _ in range(rows)]
        self._ended = [False] * rows
        self._current = 0

    def add(self, row: int, tokens: Iterable[int], styles: Iterable[str]) -> None:
        """Takes more tokens of a row; special tokens are dropped, and half a character waits for its rest."""
        for token, style in zip(tokens, styles, strict=True):
            self._write(row, self._streams[row].add([token]), style)
        self._flush()

    def open(self, row: int, prompt: bytes, tokens: Iterable[int], *, chat: bool) -> None:
        """Begins a row with its prompt: of a conversation what was said, without the template around it."""
        if chat:
            self.say(row, prompt.decode() + "\n\n")
        else:
            self.prompt(row, tokens)

    def prompt(self, row: int, tokens: Iterable[int]) -> None:
        """Takes the prompt of a row."""
        self.say(row, self._streams[row].add(tokens, prompt=True))

    def say(self, row: int, text: str) -> None:
        """Writes something that is not of the model."""
        self._write(row, text, PROMPT)
        self._flush()

    def end(self, row: int) -> None:
        """Says that a row is complete; the next one takes its place."""
        if self._ended[row]:
            return
        self._write(row, self._streams[row].end(), OWN)
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


class Sheet:
    """A file whose gaps fill up, at any places in any order.

    Args:
      tokens: int `[n]`.
      known: bool `[n]`, false in the gaps.
      tokenizer: gives the text of tokens.
    """

    def __init__(self, tokens: Iterable[int], known: Iterable[bool], tokenizer: Tokenizer = BYTES):
        self._tokenizer = tokenizer
        pairs = list(zip(tokens, known, strict=True))
        self._tokens = [int(token) if there else None for token, there in pairs]
        self._styles = [PROMPT] * len(pairs)
        self._last = next((i for i, (_, there) in enumerate(pairs) if not there), 0)

    def put(self, place: int, token: int | None, style: str) -> None:
        """Fills a place, or empties it."""
        self._styles[place] = style  # before the token: a live view reads from another thread
        self._tokens[place] = token
        self._last = place

    def text(self) -> Text:
        """All of it."""
        return paint(self._tokens, self._styles, self._tokenizer)

    def excerpt(self, lines: int) -> Text:
        """As many lines about the place that was filled last."""
        pieces = self._tokenizer.pieces()
        ends = [
            i for i, t in enumerate(self._tokens) if t is not None and b"\n" in _piece(pieces, t)
        ]
        starts = [0, *(end + 1 for end in ends), len(self._tokens)]
        line = bisect.bisect_right(starts, self._last, hi=len(starts) - 1) - 1
        first = max(min(line - lines // 2, len(starts) - 1 - lines), 0)
        shown = slice(starts[first], starts[min(first + lines, len(starts) - 1)])
        return paint(self._tokens[shown], self._styles[shown], self._tokenizer)


def paint(
    tokens: Iterable[int | None], styles: Iterable[str], tokenizer: Tokenizer = BYTES
) -> Text:
    """Tokens as text for a terminal: whole characters, each in the style of its last byte, broken ones replaced.

    None is a place that is not filled yet; special tokens are dropped.
    """
    decoder, spelled = codecs.getincrementaldecoder("utf-8")("replace"), tokenizer.pieces()
    pieces, last = [], ""
    for token, style in zip(tokens, styles, strict=True):
        if token is None:
            pieces += [(decoder.decode(b"", final=True), last), (UNFILLED, PROMPT)]
        elif piece := _piece(spelled, token):
            pieces.append((decoder.decode(piece), style))
            last = style
    pieces.append((decoder.decode(b"", final=True), last))
    text = Text()
    for style, run in itertools.groupby(pieces, key=lambda piece: piece[1]):
        text.append("".join(_visible(c) for piece, _ in run for c in piece), style)
    return text


def _piece(pieces: Sequence[bytes], token: int) -> bytes:
    return pieces[token] if 0 <= token < len(pieces) else b""


@contextlib.contextmanager
def watched(console: Console, sheet: Sheet) -> Iterator[None]:
    """Shows a sheet while it fills, in a terminal; then it is gone, and the whole text can be printed in its place."""
    view = Live(
        get_renderable=lambda: sheet.excerpt(console.height - 2),
        console=console,
        refresh_per_second=15,
        transient=True,
        vertical_overflow="crop",
    )
    with view:
        view.refresh()  # what is known is seen while the first step compiles
        yield


def order_lines(
    tokens: Sequence[int], steps: Sequence[int], width: int = 64
) -> Iterator[tuple[str, str]]:
    """Bytes, and below each the step that wrote it: pairs of lines, one character a byte.

    Steps count 0 to 9, a to z and then from 0 again; bytes that are not ASCII show as dots.
    """
    for start in range(0, len(tokens), width):
        part = slice(start, start + width)
        shown = (
            chr(t) if 32 <= t < 127 else chr(0x2400 + t) if t < 32 else "." for t in tokens[part]
        )
        yield "".join(shown), "".join(DIGITS[step % len(DIGITS)] for step in steps[part])


def print_order(
    console: Console,
    what: str,
    tokens: Sequence[int],
    steps: Sequence[int],
    tokenizer: Tokenizer = BYTES,
) -> None:
    """Prints a heat map of `order_lines` under a title."""
    console.print(Text(f"{what}: below each byte the step that wrote it", "dim"))
    pieces = [_piece(tokenizer.pieces(), token) for token in tokens]
    by_byte = [step for piece, step in zip(pieces, steps, strict=True) for _ in piece]
    shown = iter(by_byte)
    for line, digits in order_lines(b"".join(pieces), by_byte):
        console.print(Text(line))
        styles = (step_style(next(shown)) for _ in digits)
        console.print(Text.assemble(*zip(digits, styles, strict=True)))


def step_style(step: int) -> str:
    """The style of what a step wrote."""
    return STEPS[step % len(STEPS)]


def _visible(character: str) -> str:
    """Control characters of a model's text must not steer the terminal: they are shown as pictures."""
    code = ord(character)
    if character in "\n\t" or not (code < 32 or 127 <= code < 160):
        return character
    return chr(0x2400 + code) if code < 32 else "\N{REPLACEMENT CHARACTER}"
