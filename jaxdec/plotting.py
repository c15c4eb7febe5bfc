"""Pictures of decoding for notebooks; needs matplotlib, which is imported by the call (the extra `notebooks`).

Legend: L positions.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTERED = 1024
"""Maps of up to as many positions carry their characters."""

_VISIBLE, _BAR = "#e4e4e4", "#d62728"
_NEWLINE = ord("\n")


def commit_map(
    tokens: Any,
    visible: Any,
    steps: Any,
    drafted: Any = None,
    *,
    columns: int = 64,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws when each position of a row of bytes was committed: one cell a byte, coloured by the step.

    The text is laid out in lines: a newline ends one, and longer ones are wrapped. Visible positions are grey, and
    those that no step has filled yet are empty.

    Args:
      tokens: int `[L]`; bytes, and special tokens from 256 on, which are drawn without a character.
      visible: bool `[L]`, positions that were given.
      steps: int `[L]`, the step that committed each position, from 0 on; -1 at visible positions and at those that
        are not filled.
      drafted: bool `[L]`, positions whose token was proposed by a drafter and accepted; they are underlined.
      columns: cells in a line at most.
      ax: where to draw; a new figure of a fitting size if not given.

    Returns:
      The axes. `ax.images[0]` holds the steps, as an array `[lines, columns]` that is masked elsewhere.

    Raises:
      ValueError: if shapes or steps do not fit.
    """
    tokens, steps = _row("tokens", tokens, np.integer), _row("steps", steps, np.integer)
    visible = _row("visible", visible, np.bool_)
    marked = np.zeros_like(visible) if drafted is None else _row("drafted", drafted, np.bool_)
    for name, values in [("visible", visible), ("steps", steps), ("drafted", marked)]:
        if values.shape != tokens.shape:
            raise ValueError(
                f"{name} must have the length {len(tokens)} of tokens, got {len(values)}"
            )
    if steps.min() < -1:
        raise ValueError(f"steps must be at least -1, got {steps.min()}")
    if (visible & (steps >= 0)).any():
        place = int(np.argmax(visible & (steps >= 0)))
        raise ValueError(f"position {place} is visible but has step {steps[place]}; it must be -1")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")

    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    known = visible | (steps >= 0)
    lines, cells = _layout(np.where(known, tokens, -1), columns)
    height, width = int(lines.max()) + 1, int(cells.max()) + 1
    if ax is None:
        size = (max(0.17 * width, 4) + 1.2, 0.25 * height + 0.7)  # the legend has room
        _, ax = plt.subplots(figsize=size, layout="constrained")

    grid = np.ma.masked_all((height, width), int)
    filled = steps >= 0
    grid[lines[filled], cells[filled]] = steps[filled]
    image = ax.imshow(grid, cmap="viridis", vmin=0, vmax=max(steps.max(), 1), aspect="auto")
    ax.bar(  # cells are one unit wide and high, line 0 on top
        cells[visible], 1, width=1, bottom=lines[visible] - 0.5, color=_VISIBLE, zorder=0.5
    )
    ax.bar(cells[marked], 0.14, width=0.9, bottom=lines[marked] + 0.34, color=_BAR)
    if len(tokens) <= LETTERED:
        dark = filled & (steps < 0.6 * max(steps.max(), 1))
        for place in np.flatnonzero(known).tolist():
            ax.text(
                cells[place],
                lines[place],
                _character(int(tokens[place])),
                color="white" if dark[place] else "black",
                family="monospace",
                size=8,
                ha="center",
                va="center",
                parse_math=False,  # a dollar sign is a dollar sign
            )
    ax.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    for side in ax.spines.values():
        side.set_visible(False)
    ax.figure.colorbar(image, ax=ax, label="step", pad=0.01)
    legend = [Patch(color=_VISIBLE, label="visible")]
    if drafted is not None:
        legend.append(Patch(color=_BAR, label="drafted and accepted"))
    ax.legend(
        handles=legend, loc="upper left", bbox_to_anchor=(0, 0), ncols=len(legend), frameon=False
    )
    return ax


def _row(name: str, values: Any, kind: type) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or not values.size or not np.issubdtype(values.dtype, kind):
        wanted = "bool" if kind is np.bool_ else "int"
        raise ValueError(
            f"{name} must be {wanted} [L] with L of at least 1, got {values.dtype} {list(values.shape)}"
        )
    return values


def _layout(tokens: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The line and the cell of each position, int `[L]` each."""
    lines, cells = np.zeros((2, len(tokens)), int)
    line = cell = 0
    for place, token in enumerate(tokens):
        if cell == columns:
            line, cell = line + 1, 0
        lines[place], cells[place] = line, cell
        cell += 1
        if token == _NEWLINE:
            line, cell = line + 1, 0
    return lines, cells


def _character(token: int) -> str:
    """What stands in a cell: printable ASCII as it is, a newline as an arrow, other bytes as a dot."""
    if token == _NEWLINE:
        return "↵"
    if token > 255:
        return ""
    return chr(token) if 32 <= token < 127 else "·"
