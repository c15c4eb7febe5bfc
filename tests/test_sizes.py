"""A file has one subject and a function one thought: both end before a reader loses them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE, BODY = 350, 60
"""Lines that a file and the body of a function have at most; docstrings of bodies are not counted."""
PATHS = [
    path for folder in ("jaxdec", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))
]


def excess(source: str) -> list[str]:
    """What is too long."""
    found, lines = [], source.count("\n")
    if lines > FILE:
        found.append(f"{lines} lines")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node) is not None :]
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > BODY:
                found.append(f"{node.name}, line {node.lineno}: {lines} lines")
    return found


def test_files_and_functions_are_short():
    found = {str(path.relative_to(ROOT)): excess(path.read_text()) for path in PATHS}
    assert len(found) > 100
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize("extra", [0, 1])
def test_what_is_too_long_is_seen(extra):
    body = "def f():\n    '''" + "\n" * 80 + "'''\n" + "    x = 1\n" * (BODY + extra)
    assert excess(body) == [f"f, line 1: {BODY + 1} lines"] * extra
    assert excess("x = 1\n" * (FILE + extra)) == [f"{FILE + 1} lines"] * extra
