"""Pictures of decoding for notebooks; needs matplotlib, which is imported by the call (the extra `notebooks`).

Legend: B rows, L positions, N draft nodes.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxdec.speculative import Explained

LETTERED = 1024
"""Maps of up to as many positions carry their characters."""

_VISIBLE, _BAR = "#e4e4e4", "#d62728"
_ACCEPTED, _NEXT = "#8fce8f", "#f2b55f"
_NEWLINE = ord("\n")
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


def trade_off(
    points: Mapping[str, Sequence[tuple[float, float]]], *, ax: "Axes | None" = None
) -> "Axes":
    """Draws what parallel decoding costs: tokens per forward to the right, quality in bits per byte upwards.

    Args:
      points: for each policy `(tokens per forward, bits per byte)` at values of its knob, which a line joins in this
        order; lower bits are better.
      ax: where to draw; a new figure if not given.

    Returns:
      The axes, with one line a policy.

    Raises:
      ValueError: if there is no policy, one has no points, or a point is not two finite numbers.
    """
    return _curves("policy", points, "tokens per forward", "bits per byte", ax)


def node_budgets(
    points: Mapping[str, Sequence[tuple[float, float]]], *, ax: "Axes | None" = None
) -> "Axes":
    """Draws what the nodes of a draft tree are worth: nodes to the right, doubling, tokens per forward upwards.

    Args:
      points: for each method `(nodes, tokens per forward)`, which a line joins in this order.
      ax: where to draw; a new figure if not given.

    Returns:
      The axes, with one line a method.

    Raises:
      ValueError: if there is no method, one has no points, or a point is not two finite numbers.
    """
    ax = _curves("method", points, "nodes of the tree", "tokens per forward", ax)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    return ax


def _curves(
    what: str,
    points: Mapping[str, Sequence[tuple[float, float]]],
    across: str,
    up: str,
    ax: "Axes | None",
) -> "Axes":
    """One line for each `what`."""
    if not points:
        raise ValueError(f"points hold no {what}; at least 1 is needed")
    curves = {name: np.asarray(curve, float) for name, curve in points.items()}
    for name, curve in curves.items():
        if curve.ndim != 2 or curve.shape[1] != 2 or not len(curve):
            raise ValueError(
                f"points of {name!r} must be pairs [N, 2], N at least 1, got {list(curve.shape)}"
            )
        if not np.isfinite(curve).all():
            raise ValueError(f"points of {name!r} must be finite, got {curve.tolist()}")

    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, curve in curves.items():
        ax.plot(*curve.T, "o-", label=name)
    ax.set(xlabel=across, ylabel=up)
    ax.margins(0.08)
    ax.legend()
    return ax


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


def draft_tree(step: "Explained", row: int = 0, *, ax: "Axes | None" = None) -> "Axes":
    """Draws what a step proposed for a row: the pending byte at the left, the children of each node to its right.

    The first child stands beside its parent, so that a path of first children reads as a line of text; the others
    hang below, in the order in which they are judged. Accepted nodes are green, rejected ones grey, and the token that
    follows the accepted path is orange.

    Args:
      step: from `jaxdec.speculative.explain`; tokens are bytes, and special ones from 256 on, which are drawn empty.
      row: which row of it.
      ax: where to draw; a new figure of a fitting size if not given.

    Returns:
      The axes, with a text at (depth, -line) for each token.

    Raises:
      ValueError: if there is no such row.
    """
    pending = np.asarray(step.pending)
    if not 0 <= row < len(pending):
        raise ValueError(f"row must lie in [0, {len(pending) - 1}], got {row}")
    tree, verdict = step.tree, step.verdict
    count = int(verdict.count[row])
    path = np.asarray(verdict.path)[row, : count + 1]
    # Scored token 0 is the pending one; the token after the path is one more child of its last node.
    exists = np.append(True, np.asarray(tree.mask)[row])
    tokens = np.concatenate(
        [pending[[row]], np.asarray(tree.tokens)[row], [verdict.next_token[row]]]
    )
    parents = np.concatenate([[-1], np.asarray(tree.parents)[row] + 1, path[-1:]])
    shown = [*np.flatnonzero(exists).tolist(), len(exists)]
    children: dict[int, list[int]] = {node: [] for node in shown}
    for node in shown[1:]:
        children[int(parents[node])].append(node)

    places: dict[int, tuple[int, int]] = {}
    lines = 0

    def lay(node: int, depth: int, line: int) -> None:
        nonlocal lines
        places[node] = depth, -line
        for child in children[node]:
            if child != children[node][0]:
                lines += 1
                line = lines
            lay(child, depth + 1, line)

    lay(0, 0, 0)

    import matplotlib.pyplot as plt

    if ax is None:
        deepest = max(depth for depth, _ in places.values())
        size = (0.42 * deepest + 1.2, 0.3 * lines + 0.8)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    colors = dict.fromkeys(shown, _VISIBLE) | dict.fromkeys(path.tolist(), _ACCEPTED)
    colors |= {0: "white", shown[-1]: _NEXT}
    for node in shown:
        depth, line = places[node]
        if node:
            left, above = places[int(parents[node])]
            kept = colors[node] != _VISIBLE
            color, width = ("black", 1.6) if kept else ("#aaaaaa", 0.8)
            corner = left + 0.5
            ax.plot(
                [left, corner, corner, depth],
                [above, above, line, line],
                color=color,
                lw=width,
                zorder=1 + kept,
            )
        ax.text(
            depth,
            line,
            _character(int(tokens[node])).replace(" ", "␣"),
            family="monospace",
            size=9,
            ha="center",
            va="center",
            parse_math=False,
            zorder=3,
            bbox=dict(boxstyle="round,pad=0.25", facecolor=colors[node], edgecolor="#888888"),
        )
    right = max(depth for depth, _ in places.values())
    ax.set(xticks=[], yticks=[], xlim=(-0.6, right + 0.6), ylim=(-lines - 0.7, 0.7))
    for side in ax.spines.values():
        side.set_visible(False)
    return ax


def acceptance_by_depth(
    shares: Mapping[str, Sequence[float]], *, ax: "Axes | None" = None
) -> "Axes":
    """Draws how deep steps reach: for each depth the share of steps that accepted at least so many drafts.

    Args:
      shares: for each method the shares at depths 1, 2, ..., which lie in [0, 1] and never rise.
      ax: where to draw; a new figure if not given.

    Returns:
      The axes, with one line a method.

    Raises:
      ValueError: if there is no method, or shares are none, out of [0, 1], or rise.
    """
    if not shares:
        raise ValueError("shares hold no method; at least 1 is needed")
    curves = {name: np.asarray(curve, float) for name, curve in shares.items()}
    for name, curve in curves.items():
        if curve.ndim != 1 or not len(curve):
            raise ValueError(
                f"shares of {name!r} must be [D], D at least 1, got {list(curve.shape)}"
            )
        falling = np.append(1, curve[:-1]) >= curve
        bad = ~(falling & (curve >= 0))
        if bad.any():
            depth = int(np.argmax(bad))
            raise ValueError(
                f"shares of {name!r} must lie in [0, 1] and never rise, got {curve[depth]:g} at depth {depth + 1}"
            )

    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for name, curve in curves.items():
        ax.plot(1 + np.arange(len(curve)), curve, "o-", ms=4, label=name)
    deepest = max(map(len, curves.values()))
    ax.set(xticks=range(1, deepest + 1))
    ax.set(xlabel="depth d", ylabel="steps that accept d drafts or more", ylim=(0, 1.02))
    ax.legend()
    return ax


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
