"""Settings of canvas policies that are tried on tasks, and the area under what they reach."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from jaxdec.decoding import Decoder
from jaxdec.training.tasks import Task, canvas_size

Knobs = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Point:
    """A setting of a policy.

    Attributes:
      label: in words.
      knobs: of a task and the size of a block, None for the whole canvas.
    """

    label: str
    knobs: Callable[[Task, int | None], Knobs]


def _of(name: str, *values: float) -> tuple[Point, ...]:
    held = lambda value: lambda task, block: {name: value}
    return tuple(Point(f"{name.replace('_', ' ')} {value:g}", held(value)) for value in values)


def _a_step(*counts: int) -> tuple[Point, ...]:
    """So many steps that each commits about so many tokens."""

    def held(count: int) -> Callable[[Task, int | None], Knobs]:
        def knobs(task: Task, block: int | None) -> Knobs:
            size = canvas_size(task)
            return {"steps": math.ceil((size if block is None else min(block, size)) / count)}

        return knobs

    return tuple(Point(f"{count} a step", held(count)) for count in counts)


def _gaps(*scales: float) -> tuple[Point, ...]:
    """Prophet's published limits, scaled."""
    held = lambda s: (
        lambda task, block: {"early_gap": 7.5 * s, "middle_gap": 5 * s, "late_gap": 2.5 * s}
    )
    return tuple(Point(f"gaps x {s:g}", held(s)) for s in scales)


POINTS = {
    "early_gap": _gaps(2.0, 1.0, 0.6, 0.3),
    "threshold": _of("threshold", 1.0, 0.95, 0.9, 0.7, 0.5),
    "entropy_bound": _of("entropy_bound", 0.0, 0.1, 0.35, 0.7, 1.4),
    "factor": _of("factor", 0.0, 0.25, 0.5, 1.0, 2.0),
    "minimum": _of("minimum", 1, 2, 4),
    "steps": _a_step(1, 2, 3, 4, 8),
}
"""By the knob that a policy is turned by, the slowest first; the first that it has counts. A policy with none of them
has one point, its defaults."""


def points_of(decoder: Decoder) -> tuple[Point, ...]:
    """The settings of a decoder that are tried."""
    own = next((name for name in POINTS if name in decoder.knobs), None)
    if getattr(decoder, "branches", 1) > 1:
        return POINTS["steps"][:1]
    return (Point("", lambda task, block: {}),) if own is None else POINTS[own]


def area(points: Sequence[tuple[float, float]]) -> float:
    """The area under the staircase of the best accuracy that is reached at so much parallelism or more.

        integral over x > 0 of max { accuracy_i : parallelism_i >= x }

    Args:
      points: `(parallelism, accuracy)` of each setting.
    """
    total = last = 0.0
    ordered = sorted(points)
    for i, (speed, _) in enumerate(ordered):
        total += (speed - last) * max(accuracy for _, accuracy in ordered[i:])
        last = speed
    return total
