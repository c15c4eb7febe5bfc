"""Which rows are about text that is worth a figure: a row whose text is degenerate is not printed, drawn or quoted.

Decoders of text look fast where the text says nothing: blanks and repeats are certain, so that many tokens a forward
lose nothing. A row is held against the control of its result, the true text of the same prompts.
"""

from benchmarks.columns import Row

TRUE_TEXT = "true text"
"""The method of a control row."""
ENTROPY = 0.8
"""Of the entropy of the true text, what a text must have at least."""
BLANKS = 0.5
"""By what share the blanks of a text may differ from those of the true text."""


def fault(row: Row, control: Row | None) -> str:
    """What is wrong with the text of a row, in words; empty where nothing is.

    Args:
      row: with `entropy`, in bits a byte, and `blanks`, the share of bytes that are white space.
      control: the same of the true text; None where a result has none.
    """
    if row is control:
        return ""
    if control is None:
        return "no true text to compare with"
    for name in ("blanks", "entropy"):
        if row.get(name) is None or control.get(name) is None:
            return f"{name} not measured"
    if not abs(row["blanks"] - control["blanks"]) <= BLANKS * control["blanks"]:
        return "too many blanks" if row["blanks"] > control["blanks"] else "too few blanks"
    if not row["entropy"] >= ENTROPY * control["entropy"]:
        return "too little entropy"
    return ""


def _control(rows: list[Row]) -> Row | None:
    """The row of the true text, if there is one."""
    return next((row for row in rows if row["method"] == TRUE_TEXT), None)


def sound(rows: list[Row]) -> list[Row]:
    """The rows of a result whose texts are not degenerate, the control among them."""
    control = _control(rows)
    return [row for row in rows if not fault(row, control)]


def withheld(rows: list[Row]) -> str:
    """How many rows are left out and why, a sentence; empty where none is."""
    control = _control(rows)
    counted: dict[str, int] = {}
    for row in rows:
        if found := fault(row, control):
            counted[found] = counted.get(found, 0) + 1
    if not counted:
        return ""
    why = ", ".join(f"{reason} ({count})" for reason, count in counted.items())
    return (
        f"{sum(counted.values())} of {len(rows)} rows are withheld, because tokens a forward mean nothing on "
        f"degenerate text: {why}. A text counts with at least {ENTROPY:.0%} of the entropy of the true text, and with "
        f"its share of blanks give or take {BLANKS:.0%} of it."
    )
