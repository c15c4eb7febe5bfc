import io

from rich.console import Console

from jaxdec.cli.display import DRAFTED, OWN, Page


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
