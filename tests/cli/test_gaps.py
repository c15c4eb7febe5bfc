"""Marked gaps, and the parts of a file that are the context of which."""

import numpy as np
import pytest

from jaxdec import text
from jaxdec.cli.gaps import Gapped, parse


def test_markers_are_found_and_taken_out():
    assert parse(b"a<FILL:12>bc<FILL><FILL:3>") == Gapped(b"abc", (1, 3, 3), (12, None, 3))
    assert parse("<b>é<löch:2>".encode(), "löch") == Gapped("<b>é".encode(), (5,), (2,))
    assert parse(b"a.c<a.c:1> <abc:2>", b"a.c") == Gapped(b"a.c <abc:2>", (3,), (1,))


@pytest.mark.parametrize(
    ("content", "marker", "message"),
    [
        (b"", b"FILL", r"empty \(0 bytes\)"),
        (b"<fill:3> <FILLER>", b"FILL", "no marker <FILL:n> or <FILL>"),
        (b"a <FILL:0>", b"FILL", "<FILL:0> at byte 2 .* at least 1"),
        (b"<FILL:>", b"FILL", "<FILL:> at byte 0"),
        (b"<FILL:-3>", b"FILL", "<FILL:-3>"),
        (b"<FILL:x>", b"FILL", "<FILL:x>"),
        (b"<:3>", b"", "marker is empty"),
        (b"a<FILL:<FILL:3>>", b"FILL", "'<FILL:<FILL:3>>' at byte 1 begins as a marker"),
        (b"<FILL:3> <FILL:4\n>", b"FILL", "'<FILL:4' at byte 9 begins"),
        (b"<FILL> <FILL:", b"FILL", "'<FILL:' at byte 7"),
    ],
)
def test_what_is_no_gap(content, marker, message):
    with pytest.raises(ValueError, match=message):
        parse(content, marker)


def test_canvas_stands_between_bos_and_eos():
    canvas = parse(b"a<FILL:2>bc<FILL><FILL:3>").canvas([2, 1, 3])
    a, b, c = b"abc"
    assert canvas.tokens.tolist() == [text.BOS, a, 0, 0, b, c, 0, 0, 0, 0, text.EOS]
    assert np.flatnonzero(~canvas.visible).tolist() == [2, 3, 6, 7, 8, 9]
    assert canvas.gaps == (slice(2, 4), slice(6, 7), slice(7, 10))


def test_other_gaps_are_empty_while_a_length_is_chosen():
    before, after = parse(b"a<FILL:2>b<FILL>c<FILL:3>d").around(1)
    assert before.tolist() == [text.BOS, *b"ab"]
    assert after.tolist() == [*b"cd", text.EOS]


def test_gaps_share_a_row_where_their_contexts_meet():
    canvas = parse(b"x" * 10 + b"<FILL:2>" + b"y" * 6 + b"<FILL:3>" + b"z" * 10).canvas([2, 3])
    assert canvas.gaps == (slice(11, 13), slice(19, 22))
    assert canvas.rows(2) == [slice(9, 15), slice(17, 24)]
    assert canvas.rows(3) == [slice(8, 25)]
    assert canvas.rows(100) == [slice(0, 33)]
    tokens, visible, sizes = canvas.batch(canvas.rows(2))
    assert sizes.tolist() == [6, 7]
    x, y, z = b"xyz"
    assert tokens.tolist() == [[x, x, 0, 0, y, y, text.PAD], [y, y, 0, 0, 0, z, z]]
    assert visible.sum(1).tolist() == [4, 4] and not visible[0, 6]
