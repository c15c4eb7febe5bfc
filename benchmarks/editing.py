"""Texts and their edited versions, for methods that copy."""

import collections
import re

import numpy as np

from benchmarks.workload import LONGEST, Prompts
from jaxdec import text
from jaxdec.training.corpus import Source

_NAME = re.compile(rb"[A-Za-z_][A-Za-z_0-9]{2,}")


def edit(content: bytes) -> bytes:
    """A text whose most frequent name is another, of as many letters or fewer, and whose middle line is gone."""
    names = collections.Counter(_NAME.findall(content))
    if names:
        name = min(names, key=lambda name: (-names[name], name))
        content = re.sub(rb"\b" + name + rb"\b", name[::-1].swapcase(), content)
    lines = content.splitlines(keepends=True)
    del lines[len(lines) // 2 : len(lines) // 2 + (len(lines) > 2)]
    return b"".join(lines)


def edited(sources: tuple[Source, ...], count: int, size: int) -> tuple[Prompts, np.ndarray]:
    """Windows of files, and the first `size` tokens of the edited version of each, int32 `[count, size]`.

    Windows begin with a line, in the files' order; a file gives a second one only after all gave one.

    Raises:
      ValueError: if no file is long enough.
    """
    length = max(LONGEST, size * 5 // 4)
    long = [source.content for source in sources if len(source.content) >= 4 * length]
    if not long:
        raise ValueError(f"no file of at least {4 * length} bytes among {len(sources)}")
    rounds = -(-count // len(long))
    tokens = np.full((count, length), text.PAD, np.int32)
    wanted = np.zeros((count, size), np.int32)
    for row in range(count):
        content = long[row % len(long)]
        middle = len(content) * (row // len(long) + 1) // (rounds + 1)
        start = min(content.find(b"\n", middle) + 1, len(content) - 2 * length)
        tokens[row] = text.to_ids(content[start : start + length])
        # What a deleted line takes away follows from behind the window.
        changed = edit(content[start : start + length]) + content[start + length :]
        wanted[row] = text.to_ids(changed[:size])
    return Prompts(tokens, np.full(count, length)), wanted
