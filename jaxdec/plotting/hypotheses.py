"""The hypotheses of a prompt: their texts as a tree, and their weights while they were decoded.

Legend: H hypotheses, L tokens of the longest, T boundaries.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdec.plotting.characters import character

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = {"\n": "↵", "\t": "⇥"}
_LINE = "#888888"
_NOTE = 14  # characters beside a dot


def hypothesis_tree(
    tokens: Any,
    lengths: Any,
    weights: Any,
    *,
    start: int = 0,
    label: Callable[[int], str] = character,
    most: int = 32,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws the texts of some hypotheses as a tree: what they share is written once, and they part where they differ.

    Each edge is a piece of text. The branch that weighs most goes on in its line, the others hang below. At the end of
    a path stands a dot in the colour of its weight, with the weight and the hypotheses that have this text.

    Args:
      tokens: int `[H, L]`, a row a hypothesis of one prompt.
      lengths: int `[H]`, tokens in each row.
      weights: float `[H]`, at least 0.
      start: where the texts begin, such as the length of the prompt.
      label: how a token is written; as a byte if not given, and nothing from 256 on.
      most: characters of a piece at most; of a longer one the middle is left out.
      ax: where to draw; a new figure of a fitting size if not given.

    Returns:
      The axes, with a text at (characters before it, -line) for each piece; `ax.collections[0]` holds the weights of
      the dots, from the top down.

    Raises:
      ValueError: if shapes, lengths or weights do not fit.
    """
    rows, weights = _checked(tokens, lengths, weights, start)
    if most < 3:
        raise ValueError(f"most must be at least 3, got {most}")
    root = _tree(list(enumerate(rows)), weights)
    placed = list(_placed(root, 0, _Lines(), lambda piece: _written(piece, label, most)))
    leaves = [one for one in placed if not one.node.children]
    right = max(one.end for one in placed) + 2 + _NOTE

    import matplotlib.pyplot as plt

    if ax is None:
        size = (0.076 * (right + 1) + 1.1, 0.28 * len(leaves) + 0.7)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    _draw_pieces(ax, placed)
    heavy = [sum(weights[h] for h in leaf.node.hypotheses) for leaf in leaves]
    dots = ax.scatter(
        [leaf.end + 1 for leaf in leaves],
        [-leaf.line for leaf in leaves],
        c=heavy,
        vmin=0,
        vmax=max(heavy) or 1,
        cmap="viridis",
        zorder=3,
    )
    for leaf, weight in zip(leaves, heavy, strict=True):
        same = ", ".join(map(str, leaf.node.hypotheses))
        ax.annotate(
            f"{weight:.2f}  ({same})",
            (leaf.end + 1, -leaf.line),
            xytext=(8, 0),
            textcoords="offset points",
            size=8,
            va="center",
            annotation_clip=False,
        )
    ax.figure.colorbar(dots, ax=ax, label="weight", pad=0.01)
    ax.set(xticks=[], yticks=[], xlim=(-1, right), ylim=(0.7 - len(leaves), 0.7))
    for side in ax.spines.values():
        side.set_visible(False)
    return ax


def weight_history(log_weights: Any, *, moved: Any = None, ax: "Axes | None" = None) -> "Axes":
    """Draws how the weight of a prompt was shared at each boundary, and how many hypotheses carried it.

        weight of h = w_h / sum w,   effective share = (sum w)^2 / (H sum w^2)

    Args:
      log_weights: float `[T, H]`, as they were before hypotheses were drawn again; -inf for none.
      moved: bool `[T]`, boundaries at which they were drawn again, which a triangle marks; none if not given.
      ax: where to draw; a new figure if not given.

    Returns:
      The axes, with one container of bars a hypothesis, stacked to 1, and the effective share as a line.

    Raises:
      ValueError: if shapes do not fit, or a weight is infinite or no number.
    """
    values = np.asarray(log_weights, float)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"log_weights must be [T, H], both at least 1, got {list(values.shape)}")
    if not (values < np.inf).all():
        raise ValueError("log_weights must be numbers below infinity, got some that are not")
    marked = np.zeros(len(values), bool) if moved is None else np.asarray(moved, bool)
    if marked.shape != (len(values),):
        raise ValueError(f"moved must be [T], T = {len(values)}, got {list(marked.shape)}")
    best = values.max(axis=1, keepdims=True)
    masses = np.exp(values - np.where(np.isfinite(best), best, 0))
    total = masses.sum(axis=1, keepdims=True)
    shares = masses / np.where(total > 0, total, 1)
    squares = (shares**2).sum(axis=1)
    effective = np.where(squares > 0, 1 / np.where(squares > 0, squares, 1), 0) / values.shape[1]

    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
    places, below = np.arange(1, len(values) + 1), np.zeros(len(values))
    colors = plt.get_cmap("viridis")(np.linspace(0.15, 0.95, values.shape[1]))
    for share, color in zip(shares.T, colors, strict=True):
        ax.bar(places, share, 0.9, bottom=below, color=color)
        below += share
    ax.plot(places, effective, "o-", color="#d62728", ms=4, label="effective share")
    if marked.any():
        tops = np.full(marked.sum(), 1.04)
        ax.plot(places[marked], tops, "v", color="black", ms=6, label="drawn again", clip_on=False)
    ax.set(xlabel="boundary", ylabel="share of the weight", ylim=(0, 1.08))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return ax


@dataclasses.dataclass
class _Node:
    """A piece of text, how many weigh it, which hypotheses it belongs to, and what follows it."""

    piece: list[int]
    weight: float
    hypotheses: list[int]
    children: list["_Node"]


@dataclasses.dataclass(frozen=True)
class _Placed:
    """A node with its text, from a place in a line to another, and the line that it hangs on."""

    node: _Node
    text: str
    begin: int
    line: int
    above: int

    @property
    def end(self) -> int:
        return self.begin + len(self.text)


@dataclasses.dataclass
class _Lines:
    """Counts lines that are taken."""

    last: int = 0

    def new(self) -> int:
        """One more."""
        self.last += 1
        return self.last


def _checked(
    tokens: Any, lengths: Any, weights: Any, start: int
) -> tuple[list[list[int]], np.ndarray]:
    """The text of each hypothesis, and their weights."""
    tokens, lengths = np.asarray(tokens), np.asarray(lengths)
    weights = np.asarray(weights, float)
    if tokens.ndim != 2 or not len(tokens) or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(
            f"tokens must be int [H, L], H at least 1, got {tokens.dtype} {list(tokens.shape)}"
        )
    for name, values in (("lengths", lengths), ("weights", weights)):
        if values.shape != (len(tokens),):
            raise ValueError(f"{name} must be [H], H = {len(tokens)}, got {list(values.shape)}")
    if start < 0 or lengths.min() < start or lengths.max() > tokens.shape[1]:
        raise ValueError(
            f"lengths must lie in [{start}, {tokens.shape[1]}], from start to L, got {lengths.tolist()}"
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"weights must be finite and at least 0, got {weights.tolist()}")
    return [row[start:n].tolist() for row, n in zip(tokens, lengths.tolist(), strict=True)], weights


def _tree(rows: list[tuple[int, list[int]]], weights: np.ndarray) -> _Node:
    """The tree of some hypotheses with their texts: a piece that all share, then a child for each way to go on."""
    texts = [text for _, text in rows]
    shared = 0
    while all(len(text) > shared and text[shared] == texts[0][shared] for text in texts):
        shared += 1
    names = [hypothesis for hypothesis, _ in rows]
    node = _Node(texts[0][:shared], float(weights[names].sum()), names, [])
    groups: dict[int | None, list[tuple[int, list[int]]]] = {}
    for hypothesis, text in rows:
        rest = text[shared:]
        groups.setdefault(rest[0] if rest else None, []).append((hypothesis, rest))
    if len(groups) > 1:
        children = [_tree(group, weights) for group in groups.values()]
        node.children = sorted(children, key=lambda child: (-child.weight, child.hypotheses[0]))
    return node


def _placed(
    node: _Node, begin: int, lines: _Lines, write: Callable[[list[int]], str], above: int = 0
) -> Iterator[_Placed]:
    """Nodes from the top down: a first child stands on its parent's line."""
    here = _Placed(node, write(node.piece), begin, lines.last, above)
    yield here
    for child in node.children:
        if child is not node.children[0]:
            lines.new()
        yield from _placed(child, here.end + 1, lines, write, here.line)


def _written(piece: list[int], label: Callable[[int], str], most: int) -> str:
    text = "".join(label(token) for token in piece)
    text = "".join(_SHOWN.get(c, c if c.isprintable() else "·") for c in text)
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[: most - 1 - half]}…{text[len(text) - half :]}"


def _draw_pieces(ax: "Axes", placed: list[_Placed]) -> None:
    for one in placed:
        ax.text(
            one.begin,
            -one.line,
            one.text,
            family="monospace",
            size=9,
            ha="left",
            va="center",
            parse_math=False,
        )
        corner = one.begin - 0.6
        ax.plot([corner, corner], [-one.above, -one.line], color=_LINE, lw=0.8)
