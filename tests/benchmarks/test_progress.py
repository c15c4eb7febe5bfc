"""Where nobody looks at a terminal, a line on stderr says what begins."""

from benchmarks.progress import each, steps


def test_a_line_for_each_thing_that_begins(capsys):
    assert list(each([3, 4], "thing {}".format)) == [3, 4]
    with steps(1) as shown:
        shown.begin("another")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["[1/2] thing 3", "[2/2] thing 4", "[1/1] another"]
