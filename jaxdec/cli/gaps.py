"""Files with marked gaps: where the gaps are, and which parts of the file are the context of which."""

import dataclasses
import itertools
import re
from collections.abc import Sequence

import numpy as np

from jaxdec.text import BYTES, Tokenizer


@dataclasses.dataclass(frozen=True)
class Gapped:
    """A file with gaps.

    Attributes:
      content: the file's bytes without its markers.
      starts: for each gap, the bytes of `content` before it; ascending.
      lengths: bytes to fill in each; None where the length is to be chosen.
    """

    content: bytes
    starts: tuple[int, ...]
    lengths: tuple[int | None, ...]

    def around(self, gap: int, tokenizer: Tokenizer = BYTES) -> tuple[np.ndarray, np.ndarray]:
        """The tokens before and after a gap, all other gaps empty; the file stands in its frame, as BOS and EOS."""
        before, after = self.content[: self.starts[gap]], self.content[self.starts[gap] :]
        first, last = tokenizer.frame
        return np.append(first, tokenizer.to_ids(before)).astype(np.int32), np.append(
            tokenizer.to_ids(after), last
        ).astype(np.int32)

    def canvas(self, lengths: Sequence[int], tokenizer: Tokenizer = BYTES) -> "Canvas":
        """The file with gaps of these lengths, in tokens."""
        cuts = [0, *self.starts, len(self.content)]
        first, last = tokenizer.frame
        tokens, gaps = [*first], []
        for gap, (start, stop) in enumerate(itertools.pairwise(cuts)):
            tokens += tokenizer.to_ids(self.content[start:stop]).tolist()
            if gap < len(lengths):
                gaps.append(slice(len(tokens), len(tokens) + lengths[gap]))
                tokens += [0] * lengths[gap]
        tokens += last
        known = np.ones(len(tokens), bool)
        for place in gaps:
            known[place] = False
        return Canvas(np.array(tokens, np.int32), known, tuple(gaps), tokenizer.pad)

    def filled(self, fillings: Sequence[bytes]) -> tuple[bytes, list[int]]:
        """The file with its gaps filled, and the byte at which each filling begins."""
        cuts = [0, *self.starts, len(self.content)]
        found, starts = b"", []
        for gap, (start, stop) in enumerate(itertools.pairwise(cuts)):
            found += self.content[start:stop]
            if gap < len(fillings):
                starts.append(len(found))
                found += fillings[gap]
        return found, starts


@dataclasses.dataclass(frozen=True)
class Canvas:
    """A file as tokens, in the frame of its vocabulary, as in the streams that the models were trained on.

    Attributes:
      tokens: int32 `[n]`, zeros in the gaps.
      visible: bool `[n]`, false in the gaps.
      gaps: their places.
      pad: what fills up the rows of a batch.
    """

    tokens: np.ndarray
    visible: np.ndarray
    gaps: tuple[slice, ...]
    pad: int

    def rows(self, context: int) -> list[slice]:
        """The parts of the file that a request needs: `context` tokens on each side of each gap.

        Gaps whose contexts meet share a part, and what lies between them.
        """
        rows: list[slice] = []
        for gap in self.gaps:
            start, stop = max(gap.start - context, 0), min(gap.stop + context, len(self.tokens))
            if rows and start <= rows[-1].stop:
                rows[-1] = slice(rows[-1].start, stop)
            else:
                rows.append(slice(start, stop))
        return rows

    def batch(self, rows: Sequence[slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens `[B, L]`, visible `[B, L]` and sizes `[B]` of some parts, for `jaxdec.infill`."""
        sizes = np.array([row.stop - row.start for row in rows])
        tokens = np.full((len(rows), sizes.max()), self.pad, np.int32)
        visible = np.zeros(tokens.shape, bool)
        for i, row in enumerate(rows):
            tokens[i, : sizes[i]] = self.tokens[row]
            visible[i, : sizes[i]] = self.visible[row]
        return tokens, visible, sizes


def parse(content: bytes, marker: str | bytes = b"FILL") -> Gapped:
    """Finds the gaps of a file: `<FILL:n>` is a gap of n tokens, `<FILL>` one whose length is to be chosen.

    Args:
      content: the file.
      marker: the word between the angle brackets.

    Raises:
      ValueError: if the file is empty or has no marker, or a marker has no length of at least 1, or
        no end.
    """
    word = marker.encode() if isinstance(marker, str) else marker
    if not word:
        raise ValueError("the marker is empty; it must be a word, as FILL in <FILL:12>")
    if not content:
        raise ValueError("the file is empty (0 bytes)")
    shown = word.decode("utf-8", "replace")
    pieces, starts, lengths, end = [], [], [], 0
    _check_closed(content, word)
    for found in re.finditer(_marker(word), content):
        pieces.append(content[end : found.start()])
        end = found.end()
        starts.append(sum(map(len, pieces)))
        lengths.append(None if found[1] is None else _length(found))
    if not starts:
        raise ValueError(f"the file has no marker <{shown}:n> or <{shown}>")
    pieces.append(content[end:])
    return Gapped(b"".join(pieces), tuple(starts), tuple(lengths))


def _marker(word: bytes) -> bytes:
    return rb"<" + re.escape(word) + rb"(?::([^<>\n]*))?>"


def _check_closed(content: bytes, word: bytes) -> None:
    """Refuses what begins as a marker and does not end as one, as in `<FILL:<FILL:3>>`: it would stay in the text."""
    for found in re.finditer(rb"<" + re.escape(word) + rb":", content):
        if not re.compile(_marker(word)).match(content, found.start()):
            begun = content[found.start() : found.start() + 20].splitlines()[0]
            raise ValueError(
                f"{begun.decode('utf-8', 'replace')!r} at byte {found.start()} begins as a marker, but has no end "
                f"such as :12>; another --marker leaves such text as it is"
            )


def _length(found: re.Match[bytes]) -> int:
    digits = found[1]
    if not digits.isdigit() or int(digits) < 1:
        raise ValueError(
            f"the marker {found[0].decode('utf-8', 'replace')} at byte {found.start()} asks for no number of tokens "
            "that is at least 1"
        )
    return int(digits)
