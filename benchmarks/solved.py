"""Policies of canvases on tasks: settings that are tried, what is solved with them, and the area under it."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.columns import Row
from jaxdec.catalogue import Method, Parts
from jaxdec.decoding import Decoder
from jaxdec.model import Params
from jaxdec.training.filling import Filled, fill
from jaxdec.training.tasks import Problem, Task, canvas_size

Knobs = Mapping[str, float]
Held = dict[Task, list[Problem]]
"""The problems of each task."""


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
    "filter_threshold": _of("filter_threshold", 1.0, 0.98, 0.9, 0.7, 0.5),
    "beta": _of("beta", 0.25, 0.5, 0.75, 1.0, 1.5),
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


def swept(
    method: Method,
    own: Parts,
    params: Mapping[str, Params],
    held: Held,
    temperatures: Sequence[float],
    most: int | None = None,
) -> list[Row]:
    """The rows of a policy: one a setting and temperature. All share a program for each number of branches.

    Args:
      method: of the catalogue.
      own: what its decoder is made of.
      params: of its parts.
      held: what is to be solved.
      temperatures: as they say.
      most: settings, the first ones; None for all.
    """
    found: list[Row] = []
    several = getattr(method.make(own), "branches", 1) > 1
    for branches in (2, 4, 8)[:most] if several else (None,):
        decoder = method.make(dataclasses.replace(own, length=branches))
        for point in points_of(decoder)[:most]:
            words = ["" if branches is None else f"{branches} branches", point.label]
            for temperature in temperatures:
                filled = {
                    task: fill(
                        decoder,
                        dict(params),
                        task,
                        some,
                        temperature=temperature,
                        **point.knobs(task, own.block),
                    )
                    for task, some in held.items()
                }
                found.append(
                    {
                        "method": method.name,
                        "about": "",
                        "exactness": decoder.exactness.value,
                        "temperature": temperature,
                        "setting": ", ".join(filter(None, words)),
                        **counted(held, filled, temperature),
                    }
                )
    return found


def counted(held: Held, filled: Mapping[Task, Filled], temperature: float) -> Row:
    """What was solved, with how many forwards, and what a perfect model would have solved with as many.

    Args:
      held: the problems.
      filled: what was written for them.
      temperature: limits are known for 1.
    """
    right = np.concatenate([found.right for found in filled.values()])
    tokens = sum(int(found.tokens.sum()) for found in filled.values())
    forwards = sum(int(found.forwards.sum()) for found in filled.values())
    exact = float(right.mean())
    by_task = {task.name: _of_task(task, held[task], filled[task], temperature) for task in held}
    one = {task.name: task.parallel_limit(some[0].prompt, 1) == 1 for task, some in held.items()}
    shares = lambda several: [x["exact"] for name, x in by_task.items() if one[name] != several]
    mean = lambda values: float(np.mean(values)) if values else None
    limits = [x["limit"] for x in by_task.values() if x["limit"] is not None]
    return {
        "problems": len(right),
        "tokens": tokens,
        "target_forwards": forwards,
        "tokens_per_forward": tokens / forwards,
        "exact": exact,
        "exact_error": math.sqrt(exact * (1 - exact) / len(right)),
        "one_solution": mean(shares(False)),
        "several_solutions": mean(shares(True)),
        "limit": mean(limits) if len(limits) == len(by_task) else None,
        "by_task": by_task,
    }


def _of_task(task: Task, held: Sequence[Problem], found: Filled, temperature: float) -> Row:
    limit = None
    if temperature == 1:
        each = zip(held, found.forwards, strict=True)
        limits = [task.parallel_limit(problem.prompt, int(count)) for problem, count in each]
        limit = None if None in limits else float(np.mean(np.array(limits, float)))
    return {
        "exact": float(found.right.mean()),
        "tokens_per_forward": float(found.tokens.sum() / found.forwards.sum()),
        "limit": limit,
    }
