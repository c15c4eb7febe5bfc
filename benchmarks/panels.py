"""Pictures of many policies: a panel a policy, a line a temperature, and a dashed control in each."""

import math
from collections.abc import Callable, Sequence
from typing import Any

CONTROL: dict[str, Any] = {"color": "#666666", "lw": 0.8, "ls": "--"}
"""How a control is drawn that all panels share."""


def panels(
    names: Sequence[str],
    draw: Callable[[str, Any], None],
    *,
    height: float,
    up: str,
    control: str,
    across: int = 4,
) -> Any:
    """A figure of panels that share their axes, with one legend.

    Args:
      names: of the panels.
      draw: draws one, given its name and axes, by `plotting.trade_off` of temperatures.
      height: of a panel, in inches.
      up: what is upwards; to the right are tokens a forward.
      control: what the lines drawn like `CONTROL` are.
      across: panels in a row.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    down = max(math.ceil(len(names) / across), 1)
    figure = Figure(figsize=(9.5, height * down + 0.6), layout="constrained")
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, name in zip(axes, names, strict=False):
        draw(name, ax)
        ax.set_title(name, fontsize=10)
        ax.set(xlabel="", ylabel="")
        ax.get_legend().remove()
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    figure.supxlabel("tokens per forward")
    figure.supylabel(up)
    handles = [line for line in axes[0].lines if not line.get_label().startswith("_")]
    said = [f"temperature {line.get_label()}" for line in handles]
    handles.append(Line2D([], [], **CONTROL))
    figure.legend(
        handles, [*said, control], loc="outside upper center", ncols=len(handles), frameon=False
    )
    return figure
