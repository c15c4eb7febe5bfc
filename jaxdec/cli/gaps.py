"""Files with marked gaps: where the gaps are, and which parts of the file are the context of which."""

import dataclasses
import itertools
import re
from collections.abc import Sequence

import numpy as np

from jaxdec import text


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

    def around(self, gap: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens before and after a gap, all other gaps empty; the file stands between BOS and EOS."""
        before, after = self.content[: self.starts[gap]], self.content[self.starts[gap] :]
        return np.append(text.BOS, text.to_ids(before)), np.append(text.to_ids(after), text.EOS)

    def canvas(self, lengths: Sequence[int]) -> "Canvas":
        """The file with gaps of these lengths."""
        cuts = [0, *self.starts, len(self.content)]
        tokens, known = [np.array([text.BOS])], [np.array([True])]
        for gap, (start, stop) in enumerate(itertools.pairwise(cuts)):
            tokens.append(text.to_ids(self.content[start:stop]))
            known.append(np.ones(stop - start, bool))
            if gap < len(lengths):
                tokens.append(np.zeros(lengths[gap], np.int32))
                known.append(np.zeros(lengths[gap], bool))
        tokens.append(np.array([text.EOS]))
        known.append(np.array([True]))
        before = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        starts = (1 + np.array(self.starts) + before).tolist()
        return Canvas(
            np.concatenate(tokens).astype(np.int32),
            np.concatenate(known),
            tuple(slice(a, a + n) for a, n in zip(starts, lengths, strict=True)),
        )


@dataclasses.dataclass(frozen=True)
class Canvas:
    """A file as tokens, between BOS and EOS, as in the streams that the models were trained on.

    Attributes:
      tokens: int32 `[n]`, zeros in the gaps.
      visible: bool `[n]`, false in the gaps.
      gaps: their places.
    """

    tokens: np.ndarray
    visible: np.ndarray
    gaps: tuple[slice, ...]

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
        tokens = np.full((len(rows), sizes.max()), text.PAD, np.int32)
        visible = np.zeros(tokens.shape, bool)
        for i, row in enumerate(rows):
            tokens[i, : sizes[i]] = self.tokens[row]
            visible[i, : sizes[i]] = self.visible[row]
        return tokens, visible, sizes


def parse(content: bytes, marker: str | bytes = b"FILL") -> Gapped:
    """Finds the gaps of a file: `<FILL:n>` is a gap of n bytes, `<FILL>` one whose length is to be chosen.

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
            f"the marker {found[0].decode('utf-8', 'replace')} at byte {found.start()} asks for no number of bytes "
            "that is at least 1"
        )
    return int(digits)
