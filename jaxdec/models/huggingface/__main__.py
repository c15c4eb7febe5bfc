"""`python -m jaxdec.models.huggingface [--write]`: the table of architectures, on the screen or in its page."""

import sys
from pathlib import Path

from jaxdec.models.huggingface.registry import table

PAGE = Path(__file__).parents[3] / "docs" / "checkpoints.md"
OPEN, CLOSE = "<!-- architectures", "<!-- /architectures -->"


def rendered(page: str) -> str:
    """The page with the table as it is now."""
    head, rest = page.split(OPEN)
    mark, rest = rest.split("\n", 1)
    return f"{head}{OPEN}{mark}\n{table()}{CLOSE}{rest.split(CLOSE)[1]}"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(rendered(PAGE.read_text()))
    else:
        print(table(), end="")
