"""Methods next to plain decoding: bars."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def bars(
    series: Mapping[str, Mapping[str, float]],
    *,
    spreads: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws what methods reach relative to plain decoding, which is 1: a group of bars a method.

    Args:
      series: for each quantity its value by method; every quantity has the same methods.
      spreads: for some of the quantities a lower and an upper value by method, drawn as a whisker.
      ax: where to draw; a new figure of a fitting size if not given.

    Returns:
      The axes, with one container of bars a quantity; methods stand from the top down.

    Raises:
      ValueError: if there is no value, or quantities have different methods.
    """
    names = next((list(values) for values in series.values()), [])
    if not names:
        raise ValueError("series hold no method; at least 1 is needed")
    for quantity, values in series.items():
        if list(values) != names:
            raise ValueError(f"{quantity!r} must have the methods {names}, got {list(values)}")
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(6, bars_height(len(names))), layout="constrained")
    high, places = 0.8 / len(series), np.arange(len(names))
    for i, (quantity, values) in enumerate(series.items()):
        reached = np.array([values[name] for name in names])
        whiskers = None
        if spreads and quantity in spreads:
            low, top = np.array([spreads[quantity][name] for name in names]).T
            whiskers = np.maximum([reached - low, top - reached], 0)
        drawn = ax.barh(places + i * high, reached, high, xerr=whiskers, label=quantity)
        ax.bar_label(drawn, fmt="%.2f", padding=3, size=8)
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set_yticks(places + (len(series) - 1) * high / 2, names)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(series), frameon=False)
    return ax


def bars_height(methods: int) -> float:
    """Inches that `bars` of so many methods take."""
    return 0.9 + 0.45 * methods
