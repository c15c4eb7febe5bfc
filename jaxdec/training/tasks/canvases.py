"""Several tasks as one source of canvases: each problem with its solution on all the positions that its task may need.

    canvas = BOS prompt solution EOS EOS ...;   masked and scored is what stands behind the prompt

Windows hold whole canvases one after another, each with positions of its own, and numbered, so that an objective keeps
them apart. Everything here is a pure function of `(seed, step)`, on the host.

Legend: B rows, L tokens of a window.
"""

from typing import NamedTuple

import numpy as np

from jaxdec import text
from jaxdec.training.tasks.contract import Problem, Task
from jaxdec.training.tasks.mixture import TaskMixture


class Canvases(NamedTuple):
    """Windows of whole canvases.

    Attributes:
      tokens: int32 `[B, L]`.
      positions: int32 `[B, L]`, of each token in its canvas.
      numbers: int32 `[B, L]`, which canvas of the window, from 0; padding behind them all is one more.
      open: bool `[B, L]`, behind the prompt of a canvas.
    """

    tokens: np.ndarray
    positions: np.ndarray
    numbers: np.ndarray
    open: np.ndarray


def canvas_size(task: Task) -> int:
    """Positions for a solution of a task: its bytes at most, and EOS."""
    return task.longest + 1


def canvases(mixture: TaskMixture, *, batch: int, length: int, seed: int, step: int) -> Canvases:
    """Windows of fresh problems; of a task whose canvas is not held by what is left, the next window begins with it.

    Args:
      mixture: what they are drawn from.
      batch: B.
      length: L, at least a canvas.
      seed: of the run.
      step: of the run.

    Raises:
      ValueError: for a canvas that is longer than a window.
    """
    generator = np.random.default_rng((seed, step))
    tokens = np.full((batch, length), text.PAD, np.int32)
    positions, numbers = np.zeros((2, batch, length), np.int32)
    open_ = np.zeros((batch, length), bool)
    body, start = _laid_out(mixture, generator)
    for row in range(batch):
        place = number = 0
        while place + len(body) <= length:
            end = place + len(body)
            tokens[row, place:end] = body
            positions[row, place:end] = np.arange(len(body))
            numbers[row, place:end] = number
            open_[row, place + start : end] = True
            place, number = end, number + 1
            body, start = _laid_out(mixture, generator)
        if place == 0:
            raise ValueError(f"a canvas of {len(body)} tokens does not fit a window of {length}")
        numbers[row, place:] = number
        positions[row, place:] = np.arange(length - place)
    return Canvases(tokens, positions, numbers, open_)


def _laid_out(mixture: TaskMixture, generator: np.random.Generator) -> tuple[np.ndarray, int]:
    """The tokens of a canvas, and where its solution begins."""
    task, problem = mixture.draw_with_task(generator)
    return laid_out(task, problem)


def laid_out(task: Task, problem: Problem) -> tuple[np.ndarray, int]:
    """A problem and its solution on a canvas of its task: int32 `[n]`, and where the solution begins."""
    prompt, solution = (part.encode("utf-8") for part in problem)
    rest = canvas_size(task) - len(solution)
    body = [text.BOS, *prompt, *solution, *[text.EOS] * rest]
    return np.array(body, np.int32), 1 + len(prompt)
