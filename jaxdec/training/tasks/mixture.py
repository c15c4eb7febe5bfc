"""Several tasks as one source of training windows, made as they are needed.

Windows are packed: a window holds whole documents one after another, each seen by itself alone (spans end with the
document) and with positions of its own, so that a model learns what it will be asked. Everything here is a pure
function of `(seed, step)`, on the host.

    document = BOS prompt solution EOS;   scored are the tokens of the solution and its EOS

Legend: B rows, L tokens of a window.
"""

import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np

from jaxdec import text
from jaxdec.training.tasks.contract import Problem, Task, draw_from


class Packed(NamedTuple):
    """Windows of whole documents.

    Attributes:
      tokens: int32 `[B, L + 1]`.
      positions: int32 `[B, L]`, of the first L tokens, each in its document.
      stops: int32 `[B, L]`, the last token of each one's document, by its index in the window.
      weights: float32 `[B, L]`, 1 for tokens after the first that are scored, else 0.
    """

    tokens: np.ndarray
    positions: np.ndarray
    stops: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True)
class TaskMixture:
    """Tasks, and how often each is drawn.

    Attributes:
      tasks: of different names.
      shares: fractions of the documents, one a task; they sum to 1.
      held_out: fraction of each task's problems that is never drawn, in (0, 1).
    """

    tasks: tuple[Task, ...]
    shares: tuple[float, ...]
    held_out: float = 0.05

    def __post_init__(self):
        if not self.tasks or len({task.name for task in self.tasks}) < len(self.tasks):
            raise ValueError(f"tasks must be some of different names, got {self.tasks}")
        if len(self.shares) != len(self.tasks) or min(self.shares) < 0:
            raise ValueError(f"each of {len(self.tasks)} tasks needs a share, got {self.shares}")
        if abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"shares must be fractions that sum to 1, got {self.shares}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie in (0, 1), got {self.held_out}")

    def task(self, name: str) -> Task:
        """A task by its name.

        Raises:
          ValueError: if there is none.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        names = ", ".join(task.name for task in self.tasks)
        raise ValueError(f"there is no task {name!r}, only {names}")

    def fingerprint(self) -> str:
        """A hash of the tasks and their shares: equal mixtures draw equal windows."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def train_stream(self) -> "TaskMixture":
        """What `windows` draws from: nothing is made ahead."""
        return self

    def draw(self, generator: np.random.Generator) -> Problem:
        """A problem to learn from."""
        return self.draw_with_task(generator)[1]

    def draw_with_task(self, generator: np.random.Generator) -> tuple[Task, Problem]:
        """A problem to learn from, and its kind."""
        task = self.tasks[int(generator.choice(len(self.tasks), p=self.shares))]
        return task, draw_from(task, generator, held_out=False, fraction=self.held_out)


def document(problem: Problem) -> np.ndarray:
    """A problem and its solution as tokens, int32 `[n]`, between BOS and EOS."""
    body = [*(problem.prompt + problem.solution).encode("utf-8")]
    return np.array([text.BOS, *body, text.EOS], np.int32)


def windows(mixture: TaskMixture, *, batch: int, length: int, seed: int, step: int) -> Packed:
    """Packed windows of fresh problems.

    Args:
      mixture: what they are drawn from.
      batch: B.
      length: L, at least a document.
      seed: of the run.
      step: of the run.

    Raises:
      ValueError: for a document that is longer than a window.
    """
    generator = np.random.default_rng((seed, step))
    tokens = np.full((batch, length + 1), text.PAD, np.int32)
    positions, stops = np.zeros((2, batch, length + 1), np.int32)
    weights = np.zeros((batch, length + 1), np.float32)
    problem = mixture.draw(generator)
    for row in range(batch):
        place = 0
        while place + len(body := document(problem)) <= length + 1:
            end = place + len(body)
            tokens[row, place:end] = body
            positions[row, place:end] = np.arange(len(body))
            stops[row, place:end] = end - 1
            weights[row, place + 1 + len(problem.prompt.encode("utf-8")) : end] = 1
            place, problem = end, mixture.draw(generator)
        if place == 0:
            raise ValueError(f"a document of {len(body)} tokens does not fit a window of {length}")
        stops[row, place:] = np.arange(place, length + 1)  # padding sees itself alone
    return Packed(tokens, positions[:, :-1], stops[:, :-1], weights[:, 1:])
