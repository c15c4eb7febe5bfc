import io

from rich.console import Console

from jaxdec.cli import display
from jaxdec.cli.display import (
    DRAFTED,
    OWN,
    PROMPT,
    STEPS,
    Page,
    Sheet,
    order_lines,
    paint,
    print_order,
)


def written(rows, terminal=False):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, color_system="standard", width=40)
    return Page(console, rows), file.getvalue


def test_characters_are_printed_whole():
    page, text = written(1)
    seen = []
    for byte in "é€!".encode():
        page.add(0, [byte], [OWN])
        seen.append(text())
    assert seen == ["", "é", "é", "é", "é€", "é€!"]
    page.add(0, [0xC3], [OWN])
    page.end(0)
    assert text() == "é€!\ufffd\n"


def test_rows_follow_one_another():
    page, text = written(3)
    page.add(1, b"b", [OWN])
    page.end(1)
    page.add(0, b"a", [OWN])
    assert text() == "a"
    page.add(2, b"c", [OWN])
    page.end(0)
    assert text() == "a\nb\nc"
    page.end(0)
    page.add(2, b"d", [DRAFTED])
    page.end(2)
    assert text() == "a\nb\ncd\n"


def test_special_tokens_are_dropped():
    page, text = written(1)
    page.add(0, [97, 257, 98], [OWN] * 3)
    assert text() == "ab"


def test_terminals_get_colours_and_no_control_characters():
    page, text = written(1, terminal=True)
    page.add(0, b"ab\x1b[2J", [DRAFTED, OWN, OWN, OWN, OWN, OWN])
    assert text() == "\x1b[32ma\x1b[0m\x1b[95mb\u241b[2J\x1b[0m"


def test_long_lines_are_not_broken():
    page, text = written(1, terminal=True)
    page.add(0, b"x" * 100, [OWN] * 100)
    assert "\n" not in text()


def spans(text):
    """The pieces of a text with their styles."""
    return [(text.plain[span.start : span.end], span.style) for span in text.spans]


def test_painted_bytes_are_whole_characters():
    tokens = [97, 256, *"é".encode(), None, 0xC3, None, 0x1B, 98]
    styles = [PROMPT, PROMPT, PROMPT, OWN, "", DRAFTED, "", OWN, DRAFTED]
    assert spans(paint(tokens, styles)) == [
        ("a", PROMPT),
        ("é", OWN),
        ("·", PROMPT),
        ("\ufffd", DRAFTED),
        ("·", PROMPT),
        ("\u241b", OWN),
        ("b", DRAFTED),
    ]
    assert paint([0xE2, 0x82], [OWN, OWN]).plain == "\ufffd"


def test_a_sheet_fills_in_any_order():
    sheet = Sheet(b"a..b", [True, False, False, True])
    assert sheet.text().plain == "a··b"
    sheet.put(2, ord("y"), OWN)
    assert spans(sheet.text()) == [("a·", PROMPT), ("y", OWN), ("b", PROMPT)]
    sheet.put(1, ord("x"), DRAFTED)
    assert spans(sheet.text())[1] == ("x", DRAFTED)
    sheet.put(2, None, PROMPT)
    assert spans(sheet.text()) == [("a", PROMPT), ("x", DRAFTED), ("·b", PROMPT)]


def test_an_excerpt_shows_the_lines_about_the_last_byte():
    page = b"".join(b"%d.\n" % i for i in range(10))
    sheet = Sheet(page, [byte != ord(".") for byte in page])
    assert sheet.excerpt(3).plain == "0·\n1·\n2·\n"
    sheet.put(5 * 3 + 1, ord("\n"), OWN)  # in line 5: a new line begins
    assert sheet.excerpt(3).plain == "4·\n5\n\n"
    sheet.put(9 * 3 + 1, ord("x"), OWN)
    assert sheet.excerpt(3).plain == "8·\n9x\n"
    assert sheet.excerpt(100).plain == sheet.text().plain


def test_order_lines():
    tokens = [*b"ab\n", 0xFF, *range(97, 123)]
    (shown, digits), (rest, more) = order_lines(tokens, [0, 0, 9, 10, *range(20, 46)], width=20)
    assert (shown, digits) == ("ab\u240a.abcdefghijklmnop", "009aklmnopqrstuvwxyz")
    assert (rest, more) == ("qrstuvwxyz", "0123456789")


def test_steps_have_colours_in_turn():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="standard", width=80)
    last = len(STEPS)
    print_order(console, "gap 1", b"abc", [0, last - 1, last])
    assert (STEPS[0], STEPS[-1]) == ("blue", "magenta")
    title, letters, digits = file.getvalue().splitlines()
    assert title == "\x1b[2mgap 1: below each byte the step that wrote it\x1b[0m"
    assert letters == "abc"
    assert digits == f"\x1b[34m0\x1b[0m\x1b[35m{last - 1}\x1b[0m\x1b[34m{last}\x1b[0m"


def test_waiting_is_shown_on_a_terminal_only(monkeypatch):
    for terminal in (True, False):
        file = io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=40)
        monkeypatch.setattr(display, "figures", lambda console=console: console)
        with display.waiting("compiling") as say:
            say("decoding, 3 tokens")
        seen = file.getvalue()
        assert ("decoding, 3 tokens ..." in seen) == terminal and bool(seen) == terminal
