"""Curves over a knob, over nodes and over depths: one line a method.

Legend: D depths, N points.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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


def verification_cost(
    costs: Sequence[tuple[float, float]],
    *,
    step: tuple[float, float] | None = None,
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws what a forward of several tokens costs: tokens to the right, doubling, times the cost of one upwards.

    Args:
      costs: `(tokens, times the cost of one)`, which a line joins.
      step: that of a whole step with its drafting, a point, whose height is the tokens a step that it has to give.
      title: above it.
      ax: where to draw; a new figure if not given.

    Returns:
      The axes.

    Raises:
      ValueError: if there is no cost, or a point is not two finite numbers.
    """
    ax = _curves("network", {"a forward": costs}, "tokens a forward", "times the cost of one", ax)
    if step is not None:
        ax.plot(*step, "o", color="black")
        ax.annotate(f"break-even {step[1]:.2f}", step, textcoords="offset points", xytext=(6, -4))
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_ylim(bottom=0)
    ax.set_title(title)
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


def voting_curves(
    points: Mapping[str, Sequence[tuple[float, float, float]]], *, ax: "Axes | None" = None
) -> "Axes":
    """Draws what more hypotheses are worth: hypotheses to the right, doubling, accuracy upwards with its error.

    Args:
      points: for each rule of selection `(hypotheses, accuracy, standard error)`, which a line joins in this order.
      ax: where to draw; a new figure if not given.

    Returns:
      The axes, with one container of error bars a rule; a bar reaches one standard error up and down.

    Raises:
      ValueError: if there is no rule, one has no points, or a point is not three finite numbers, the error at least 0.
    """
    curves = _checked("rule", points, 3)
    for name, curve in curves.items():
        if (curve[:, 2] < 0).any():
            raise ValueError(f"errors of {name!r} must be at least 0, got {curve[:, 2].min():g}")

    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, curve in curves.items():
        sizes, accuracies, errors = curve.T
        ax.errorbar(sizes, accuracies, yerr=errors, fmt="o-", ms=4, capsize=3, label=name)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="hypotheses a prompt", ylabel="accuracy")
    ax.legend()
    return ax


def _curves(
    what: str,
    points: Mapping[str, Sequence[tuple[float, float]]],
    across: str,
    up: str,
    ax: "Axes | None",
) -> "Axes":
    """One line for each `what`."""
    curves = _checked(what, points, 2)

    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, curve in curves.items():
        ax.plot(*curve.T, "o-", label=name)
    ax.set(xlabel=across, ylabel=up)
    ax.margins(0.08)
    ax.legend()
    return ax


def _checked(
    what: str, points: Mapping[str, Sequence[tuple[float, ...]]], numbers: int
) -> dict[str, np.ndarray]:
    """The points of each `what` as an array `[N, numbers]`."""
    if not points:
        raise ValueError(f"points hold no {what}; at least 1 is needed")
    curves = {name: np.asarray(curve, float) for name, curve in points.items()}
    for name, curve in curves.items():
        if curve.ndim != 2 or curve.shape[1] != numbers or not len(curve):
            tuples = {2: "pairs", 3: "triples"}[numbers]
            raise ValueError(
                f"points of {name!r} must be {tuples} [N, {numbers}], N at least 1, got {list(curve.shape)}"
            )
        if not np.isfinite(curve).all():
            raise ValueError(f"points of {name!r} must be finite, got {curve.tolist()}")
    return curves


def label_lines(ax: "Axes", *, gap: float = 0.07) -> "Axes":
    """Names each line at its right end, in its colour, in place of a legend.

    Args:
      ax: with lines that have labels; lines without one stay unnamed.
      gap: what a name needs, as a share of the height; names that would overlap move up.

    Returns:
      The axes, with one annotation a line.

    Raises:
      ValueError: unless `0 <= gap < 1`.
    """
    if not 0 <= gap < 1:
        raise ValueError(f"gap must lie in [0, 1), got {gap:g}")
    if (legend := ax.get_legend()) is not None:
        legend.remove()
    ax.autoscale_view()  # the limits are known from here on
    to_axes = ax.transData + ax.transAxes.inverted()
    lines = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    ends = [np.asarray(line.get_xydata()) for line in lines]
    # A line over the whole width has its places in shares of the width, so that its height alone is read.
    heights = [to_axes.transform((ax.get_xlim()[1], end[end[:, 0].argmax(), 1]))[1] for end in ends]
    below = -np.inf
    for place in np.argsort(heights):
        below = heights[place] = max(heights[place], below + gap)
    for line, height in zip(lines, heights, strict=True):
        ax.annotate(
            str(line.get_label()),
            (1.02, height),
            xycoords="axes fraction",
            color=line.get_color(),
            va="center",
            annotation_clip=False,
        )
    return ax
