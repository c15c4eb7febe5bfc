"""Rows of bytes as maps of cells: when each was committed, and how sure the model was.

Legend: L positions.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdec.plotting.characters import NEWLINE, character

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTERED = 1024
"""Maps of up to as many positions carry their characters."""

_VISIBLE, _BAR = "#e4e4e4", "#d62728"
_KINDS: dict[type, str] = {np.integer: "int", np.floating: "float", np.bool_: "bool"}


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
    marked = None if drafted is None else _row("drafted", drafted, np.bool_)
    _same_length(tokens, visible=visible, steps=steps, drafted=marked)
    if steps.min() < -1:
        raise ValueError(f"steps must be at least -1, got {steps.min()}")
    if (visible & (steps >= 0)).any():
        place = int(np.argmax(visible & (steps >= 0)))
        raise ValueError(f"position {place} is visible but has step {steps[place]}; it must be -1")
    values = np.ma.masked_array(steps, steps < 0)
    return _map(tokens, visible, values, max(steps.max(), 1), "step", marked, columns, ax)


def confidence_map(
    tokens: Any,
    visible: Any,
    confidence: Any,
    *,
    columns: int = 64,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws how sure the model was of each position of a row of bytes: as `commit_map`, coloured by the probability.

    Args:
      tokens: int `[L]`; bytes, and special tokens from 256 on, which are drawn without a character.
      visible: bool `[L]`, positions that were given.
      confidence: float `[L]`, the probability of each token when it was committed, such as `exp(raw_log_probs)`; NaN
        at positions that are not filled. What stands at visible ones is not read.
      columns: cells in a line at most.
      ax: where to draw; a new figure of a fitting size if not given.

    Returns:
      The axes. `ax.images[0]` holds the probabilities, as an array `[lines, columns]` that is masked elsewhere.

    Raises:
      ValueError: if shapes or probabilities do not fit.
    """
    tokens, visible = _row("tokens", tokens, np.integer), _row("visible", visible, np.bool_)
    confidence = _row("confidence", confidence, np.floating)
    _same_length(tokens, visible=visible, confidence=confidence)
    bad = ~visible & ((confidence < 0) | (confidence > 1))
    if bad.any():
        place = int(np.argmax(bad))
        raise ValueError(
            f"confidence must lie in [0, 1], got {confidence[place]:g} at position {place}"
        )
    values = np.ma.masked_array(confidence, visible | np.isnan(confidence))
    label = "probability when committed"
    return _map(tokens, visible, values, 1, label, None, columns, ax)


def _map(
    tokens: np.ndarray,
    visible: np.ndarray,
    values: np.ma.MaskedArray,
    largest: float,
    label: str,
    marked: np.ndarray | None,
    columns: int,
    ax: "Axes | None",
) -> "Axes":
    """A cell a byte, coloured by `values [L]` between 0 and `largest`, which are masked where there are none."""
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")

    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    filled = ~np.ma.getmaskarray(values)
    known = visible | filled
    lines, cells = _layout(np.where(known, tokens, -1), columns)
    height, width = int(lines.max()) + 1, int(cells.max()) + 1
    if ax is None:
        size = (max(0.17 * width, 4) + 1.2, 0.25 * height + 0.7)  # the legend has room
        _, ax = plt.subplots(figsize=size, layout="constrained")

    grid = np.ma.masked_all((height, width), values.dtype)
    grid[lines[filled], cells[filled]] = values[filled]
    image = ax.imshow(grid, cmap="viridis", vmin=0, vmax=largest, aspect="auto")
    ax.bar(  # cells are one unit wide and high, line 0 on top
        cells[visible], 1, width=1, bottom=lines[visible] - 0.5, color=_VISIBLE, zorder=0.5
    )
    legend = [Patch(color=_VISIBLE, label="visible")]
    if marked is not None:
        ax.bar(cells[marked], 0.14, width=0.9, bottom=lines[marked] + 0.34, color=_BAR)
        legend.append(Patch(color=_BAR, label="drafted and accepted"))
    if len(tokens) <= LETTERED:
        dark = (values < 0.6 * largest).filled(False)
        for place in np.flatnonzero(known).tolist():
            ax.text(
                cells[place],
                lines[place],
                character(int(tokens[place])),
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
    ax.figure.colorbar(image, ax=ax, label=label, pad=0.01)
    ax.legend(
        handles=legend, loc="upper left", bbox_to_anchor=(0, 0), ncols=len(legend), frameon=False
    )
    return ax


def _row(name: str, values: Any, kind: type) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or not values.size or not np.issubdtype(values.dtype, kind):
        raise ValueError(
            f"{name} must be {_KINDS[kind]} [L] with L of at least 1, got {values.dtype} {list(values.shape)}"
        )
    return values


def _same_length(tokens: np.ndarray, **others: np.ndarray | None) -> None:
    for name, values in others.items():
        if values is not None and values.shape != tokens.shape:
            raise ValueError(
                f"{name} must have the length {len(tokens)} of tokens, got {len(values)}"
            )


def _layout(tokens: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The line and the cell of each position, int `[L]` each."""
    lines, cells = np.zeros((2, len(tokens)), int)
    line = cell = 0
    for place, token in enumerate(tokens):
        if cell == columns:
            line, cell = line + 1, 0
        lines[place], cells[place] = line, cell
        cell += 1
        if token == NEWLINE:
            line, cell = line + 1, 0
    return lines, cells
