"""Bytes as single characters."""

NEWLINE = ord("\n")


def character(token: int) -> str:
    """What stands in a cell: printable ASCII as it is, a newline as an arrow, other bytes as a dot."""
    if token == NEWLINE:
        return "↵"
    if token > 255:
        return ""
    return chr(token) if 32 <= token < 127 else "·"
