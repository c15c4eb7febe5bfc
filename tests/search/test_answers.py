"""Answers of rows against a plain search."""

import functools

import jax
import numpy as np
import pytest

from jaxdec.search.answers import extract_answers

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(4)
B, L = 200, 14
TOKENS = RNG.integers(0, 5, (B, L))
START = RNG.integers(0, 5, B)
STOP = START + RNG.integers(0, L - 3, B)
STOP = np.minimum(STOP, L)


def searched(row, start, stop, marker, ends, most, ignored, which, closed):
    new = row[start:stop].tolist()
    found = [i for i in range(len(new) - len(marker) + 1) if new[i : i + len(marker)] == marker]
    if not marker:
        found = [0]
    if not found:
        return None
    rest = new[found[0 if which == "first" else -1] + len(marker) :]
    end = next((i for i, token in enumerate(rest) if token in ends), None)
    if end is None and closed:
        return None
    text = [token for token in rest[:end] if token not in ignored]
    return text if 1 <= len(text) <= most else None


@pytest.mark.parametrize(
    "options",
    [
        dict(marker=[3, 1], ends=[0], most=4, ignored=[2], which="last", closed=False),
        dict(marker=[3], ends=[0, 2], most=2, ignored=[], which="first", closed=True),
        dict(marker=[], ends=[4], most=14, ignored=[], which="last", closed=False),
    ],
)
def test_answers(options):
    found = jax.jit(functools.partial(extract_answers, **options))(TOKENS, STOP, START)
    wanted = [searched(TOKENS[b], START[b], STOP[b], **options) for b in range(B)]
    assert any(wanted) and not all(wanted)
    assert found.valid.tolist() == [text is not None for text in wanted]
    for tokens, length, text in zip(found.tokens, found.lengths, wanted, strict=True):
        text = text or []
        assert int(length) == len(text)
        assert tokens.tolist() == text + [-1] * (options["most"] - len(text))


def test_what_is_behind_the_text_is_not_read():
    behind = np.arange(L) >= STOP[:, None]
    options = dict(marker=[3, 1], ends=[0], most=4)
    find = jax.jit(functools.partial(extract_answers, **options))
    one, other = find(TOKENS, STOP, START), find(np.where(behind, 3, TOKENS), STOP, START)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(x, y)


def test_arguments():
    ask = functools.partial(extract_answers, TOKENS, STOP, START)
    for options, message in (
        (dict(marker=[3], which="best"), "which must be"),
        (dict(marker=[-2]), r"marker must lie in \[0"),
        (dict(marker=[0.5]), "marker must hold integers"),
        (dict(marker=[3], most=0), r"most must lie in \[1, .*, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ask(**options)
    with pytest.raises(ValueError, match=r"lengths must have shape \[200\], got \[3\]"):
        extract_answers(TOKENS, STOP[:3], START, marker=[3])
    unfound = jax.jit(functools.partial(ask, marker=[3] * 20))()  # longer than any row
    assert not unfound.valid.any()
