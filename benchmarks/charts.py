"""Charts of the results, from the JSON files; they need matplotlib."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.speculation import BUDGET, TREE_BARS
from jaxdec.plotting import node_budgets, trade_off

Row = dict[str, Any]
Curves = dict[str, list[tuple[float, float]]]


def policies(rows: list[Row], temperature: float) -> Curves:
    """Tokens per forward and bits per byte of each policy over its knob, at the largest block; controls left out."""
    found: Curves = {}
    held = [row for row in rows if row.get("temperature") == temperature and not row["about"]]
    largest = max(row["block"] for row in held)
    for row in held:
        if row["block"] == largest:
            point = row["tokens_per_forward"], row["bits_per_byte"]
            found.setdefault(row["method"], []).append(point)
    return found


def trees(rows: list[Row], temperature: float) -> Curves:
    """Nodes and tokens per forward of each family that was run over budgets of nodes."""
    found: Curves = {}
    for row in rows:
        if row["temperature"] == temperature and row["family"]:
            found.setdefault(row["family"], []).append((row["nodes"], row["tokens_per_forward"]))
    return {family: sorted(points) for family, points in found.items()}


def _draw_policies(rows: list[Row], temperature: float, ax: Any) -> None:
    from matplotlib import colormaps

    ax.set_prop_cycle(color=colormaps["tab20"].colors)  # the default has fewer than policies
    trade_off(policies(rows, temperature), ax=ax)


def _draw_trees(rows: list[Row], temperature: float, ax: Any) -> None:
    node_budgets(trees(rows, temperature), ax=ax)
    if temperature in TREE_BARS:
        bar, label = TREE_BARS[temperature], f"bar of the best tree within {BUDGET} nodes"
        ax.axhline(bar, color="black", linestyle="--", linewidth=0.8, label=label)
        ax.legend()


CHARTS: dict[str, Callable[[list[Row], float, Any], None]] = {
    "diffusion": _draw_policies,
    "speculation": _draw_trees,
}
"""Cases that have a chart, and what draws its panel of a temperature."""


def write(results: list[dict[str, Any]], root: Path = ROOT) -> list[Path]:
    """Draws the chart of each case that has one, a panel a temperature, to docs/images/; returns what was written.

    Raises:
      ValueError: if no result has one.
    """
    held = [result for result in results if result["case"] in CHARTS]
    if not held:
        raise ValueError(f"there is no result of the cases {', '.join(CHARTS)} to draw")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    paths = []
    for result in held:
        rows = result["rows"]
        temperatures = sorted(
            {row["temperature"] for row in rows if row.get("temperature") is not None}
        )
        figure = Figure(figsize=(5.5 * len(temperatures), 5), layout="constrained")
        axes = figure.subplots(1, len(temperatures), squeeze=False)[0]
        for ax, temperature in zip(axes, temperatures, strict=True):
            CHARTS[result["case"]](rows, temperature, ax)
            ax.set_title(f"temperature {temperature:g}")
            ax.get_legend().remove()  # one is enough
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        path = root / "docs" / "images" / f"{result['case']}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        # The same results give the same file.
        with rc_context({"svg.hashsalt": "jaxdec"}):
            figure.savefig(path, metadata={"Date": None})
        paths.append(path)
    return paths
