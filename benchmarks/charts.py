"""Charts of the results, from the JSON files; they need matplotlib."""

from pathlib import Path
from typing import Any

from benchmarks import ROOT
from jaxdec.plotting import trade_off

Row = dict[str, Any]


def curves(rows: list[Row], temperature: float) -> dict[str, list[tuple[float, float]]]:
    """Tokens per forward and bits per byte of each policy over its knob, at the largest block; controls left out."""
    found: dict[str, list[tuple[float, float]]] = {}
    held = [row for row in rows if row.get("temperature") == temperature and not row["about"]]
    largest = max(row["block"] for row in held)
    for row in held:
        if row["block"] == largest:
            point = row["tokens_per_forward"], row["bits_per_byte"]
            found.setdefault(row["method"], []).append(point)
    return found


def write(results: list[dict[str, Any]], root: Path = ROOT) -> list[Path]:
    """Draws the trade-off of canvas decoding, a panel a temperature, to docs/images/; returns what was written.

    Raises:
      ValueError: if no result has one.
    """
    rows = next((result["rows"] for result in results if result["case"] == "diffusion"), None)
    if rows is None:
        raise ValueError("there is no result of the case diffusion to draw")
    from matplotlib import colormaps, rc_context
    from matplotlib.figure import Figure

    temperatures = sorted(
        {row["temperature"] for row in rows if row.get("temperature") is not None}
    )
    figure = Figure(figsize=(5.5 * len(temperatures), 5), layout="constrained")
    axes = figure.subplots(1, len(temperatures), squeeze=False)[0]
    for ax, temperature in zip(axes, temperatures, strict=True):
        ax.set_prop_cycle(color=colormaps["tab20"].colors)  # the default has fewer than policies
        trade_off(curves(rows, temperature), ax=ax)
        ax.set_title(f"temperature {temperature:g}")
        ax.get_legend().remove()  # one is enough
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    path = root / "docs" / "images" / "diffusion.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same results give the same file.
    with rc_context({"svg.hashsalt": "jaxdec"}):
        figure.savefig(path, metadata={"Date": None})
    return [path]
