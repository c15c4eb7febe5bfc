"""Pictures of the results, from the JSON files; they need matplotlib."""

from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.cases import CASES
from benchmarks.degenerate import TRUE_TEXT


def write(results: list[dict[str, Any]], root: Path = ROOT) -> list[Path]:
    """Draws the picture of each case that has one to docs/images/; returns what was written.

    Rows that are withheld are not drawn, and a case without others has no picture.

    Raises:
      ValueError: if no result has one.
    """
    drawn = {name: case.chart for name, case in CASES.items() if case.chart is not None}
    held = [result for result in results if result["case"] in drawn]
    if not held:
        raise ValueError(f"there is no result of the cases {', '.join(drawn)} to draw")
    from matplotlib import rc_context

    paths = []
    for result in held:
        path = root / "docs" / "images" / f"{result['case']}.svg"
        rows = CASES[result["case"]].sound(result["rows"])
        if all(row.get("method") == TRUE_TEXT for row in rows):
            path.unlink(missing_ok=True)  # nothing that may be shown
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # The same results give the same file.
        with rc_context({"svg.hashsalt": "jaxdec", "font.size": 9}):
            drawn[result["case"]](rows).savefig(path, metadata={"Date": None})
        paths.append(path)
    return paths
