"""Draft trees with their accepted paths.

Legend: B rows, N draft nodes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from jaxdec.plotting.characters import character

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxdec.speculative import Explained

_REJECTED = "#e4e4e4"
_ACCEPTED, _NEXT = "#8fce8f", "#f2b55f"


def draft_tree(
    step: "Explained",
    row: int = 0,
    *,
    label: Callable[[int], str] = character,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws what a step proposed for a row: the pending token at the left, the children of each node to its right.

    The first child stands beside its parent, so that a path of first children reads as a line of text; the others
    hang below, in the order in which they are judged. Accepted nodes are green, rejected ones grey, and the token that
    follows the accepted path is orange.

    Args:
      step: from `jaxdec.speculative.explain`.
      row: which row of it.
      label: how a token is written; as a byte if not given, and nothing from 256 on.
      ax: where to draw; a new figure of a fitting size if not given.

    Returns:
      The axes, with a text at (depth, -line) for each token.

    Raises:
      ValueError: if there is no such row.
    """
    rows = len(np.asarray(step.pending))
    if not 0 <= row < rows:
        raise ValueError(f"row must lie in [0, {rows - 1}], got {row}")
    tokens, parents, shown, path = _nodes(step, row)
    places = _places(shown, parents)
    right = max(depth for depth, _ in places.values())
    lines = -min(line for _, line in places.values())
    labels = {node: label(int(tokens[node])).replace(" ", "␣") for node in shown}
    longest = max(map(len, labels.values()))

    import matplotlib.pyplot as plt

    if ax is None:
        size = ((0.33 + 0.09 * max(longest, 1)) * right + 1.2, 0.3 * lines + 0.8)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    colors = dict.fromkeys(shown, _REJECTED) | dict.fromkeys(path, _ACCEPTED)
    colors |= {0: "white", shown[-1]: _NEXT}
    for node in shown:
        if node:
            _edge(ax, places[parents[node]], places[node], kept=colors[node] != _REJECTED)
        ax.text(
            *places[node],
            labels[node],
            family="monospace",
            size=9,
            ha="center",
            va="center",
            parse_math=False,
            zorder=3,
            bbox=dict(boxstyle="round,pad=0.25", facecolor=colors[node], edgecolor="#888888"),
        )
    ax.set(xticks=[], yticks=[], xlim=(-0.6, right + 0.6), ylim=(-lines - 0.7, 0.7))
    for side in ax.spines.values():
        side.set_visible(False)
    return ax


def _nodes(step: "Explained", row: int) -> tuple[np.ndarray, list[int], list[int], list[int]]:
    """Tokens and parents of all nodes, those that are there, and the accepted path.

    Node 0 is the pending token; the token after the path is one more child of its last node.
    """
    tree, verdict = step.tree, step.verdict
    path = np.asarray(verdict.path)[row, : int(verdict.count[row]) + 1]
    exists = np.append(True, np.asarray(tree.mask)[row])
    pending = np.asarray(step.pending)[[row]]
    tokens = np.concatenate([pending, np.asarray(tree.tokens)[row], [verdict.next_token[row]]])
    parents = np.concatenate([[-1], np.asarray(tree.parents)[row] + 1, path[-1:]])
    shown = [*np.flatnonzero(exists).tolist(), len(exists)]
    return tokens, parents.tolist(), shown, path.tolist()


def _places(shown: list[int], parents: list[int]) -> dict[int, tuple[int, int]]:
    """(depth, -line) of each node: a first child stands on its parent's line, the others on lines of their own."""
    children: dict[int, list[int]] = {node: [] for node in shown}
    for node in shown[1:]:
        children[parents[node]].append(node)
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
    return places


def _edge(ax: "Axes", start: tuple[int, int], end: tuple[int, int], *, kept: bool) -> None:
    """A line with a corner from a node to its child."""
    (left, above), (depth, line) = start, end
    corner = left + 0.5
    ax.plot(
        [left, corner, corner, depth],
        [above, above, line, line],
        color="black" if kept else "#aaaaaa",
        lw=1.6 if kept else 0.8,
        zorder=1 + kept,
    )
