"""Training heads that score prefixes of solutions: a process reward, and a value.

Both read the frozen model's hidden state where a step ends, and learn from what the model itself writes:

    reward:  the prefix can still be completed to a right solution     (exact labels, by the task's checker)
    value:   the solution that the prefix was taken from is right      (labels are draws; the score is a probability)

Legend: B prefixes, D width.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdec.model import Model, Params, ScoreHead
from jaxdec.models import ScoreConfig, build_heads
from jaxdec.training.roll_outs import RollOuts, roll_outs
from jaxdec.training.tasks import Problem, TaskMixture
from jaxdec.training.tasks import problems as draw_problems
from jaxdec.training.trainer import RunConfig, descend

KINDS = ("reward", "value")


@dataclasses.dataclass(frozen=True)
class ScoreTraining(RunConfig):
    """A run that trains a head on hidden states; `length` is that of a document.

    Attributes:
      kind: `"reward"` or `"value"`.
      model: sizes.
      mixture: the tasks, those of the target.
      target: name of the checkpoint whose states the head reads; it stays as it is.
      problems: of each task, that the target solves for it.
      samples: solutions of each.
      temperature: of the solutions.
    """

    kind: str
    model: ScoreConfig
    mixture: TaskMixture
    target: str = "steps"
    problems: int = 400
    samples: int = 4
    temperature: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        for name in ("problems", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.temperature < np.inf:
            raise ValueError(f"temperature must be positive, got {self.temperature}")


class Labelled(NamedTuple):
    """States and what they are to be scored.

    Attributes:
      hidden: float32 `[B, D]`.
      labels: float32 `[B]`, 0 or 1.
    """

    hidden: np.ndarray
    labels: np.ndarray


def roll_outs_of(
    config: ScoreTraining, target: tuple[Model, Params], *, held_out: bool = False
) -> RollOuts:
    """What the target writes for the problems of a run, or for as many that are held out."""
    tasks = config.mixture.tasks
    problems: list[tuple[int, Problem]] = [
        (i, problem)
        for i, task in enumerate(tasks)
        for problem in draw_problems(
            task,
            config.problems,
            seed=config.seed,
            held_out=held_out,
            fraction=config.mixture.held_out,
        )
    ]
    return roll_outs(
        *target,
        tasks,
        problems,
        samples=config.samples,
        temperature=config.temperature,
        seed=2 * config.seed + held_out,
        length=config.length,
    )


def draw(
    stream: RollOuts, *, batch: int, length: int, seed: int, step: int, kind: str = "reward"
) -> Labelled:
    """Random prefixes, a pure function of `(seed, step)`; every task is as likely as the others."""
    generator = np.random.default_rng((seed, step))
    which = generator.choice(np.unique(stream.tasks), batch)
    chosen = np.empty(batch, int)
    for task in np.unique(which):
        own = np.flatnonzero(stream.tasks == task)
        chosen[which == task] = own[generator.integers(0, len(own), int((which == task).sum()))]
    return Labelled(stream.hidden[chosen], getattr(stream, kind)[chosen])


def train_scores(
    config: ScoreTraining,
    data: RollOuts,
    folder: Path,
    *,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> tuple[ScoreHead, Params]:
    """Trains a head by cross-entropy, or continues the training that a killed run left in `folder`.

    Args:
      config: the run.
      data: of `roll_outs_of`.
      folder: as for `jaxdec.training.trainer.train`.
      report: called with (steps done, loss in nats, seconds since the start) after each step.

    Returns:
      The head and its trained parameters.

    Raises:
      ValueError: if the folder holds another run, or the states have another width than the head.
    """
    width = data.hidden.shape[1]
    if width != config.model.width:
        raise ValueError(f"the head reads states of width {config.model.width}, got {width}")
    head, params = build_heads(config.kind, config.model, seed=config.seed)
    assert isinstance(head, ScoreHead)

    def loss(params: Params, fixed: Params, batch: Labelled) -> jax.Array:
        logits = head.logit(params, batch.hidden)
        return optax.sigmoid_binary_cross_entropy(logits, batch.labels).mean()

    def drawn(stream: RollOuts, **how: int) -> Labelled:
        return draw(stream, **how, kind=config.kind)

    return head, descend(config, data, folder, params, drawn, loss, report=report)


def discrimination(head: ScoreHead, params: Params, data: RollOuts, kind: str) -> dict[str, float]:
    """How well a head tells prefixes apart.

    Args:
      head: is judged.
      params: its own.
      data: roll-outs that it was not trained on.
      kind: `"reward"` or `"value"`, the labels.

    Returns:
      `auc`, the probability that a prefix with the label 1 scores higher than one with 0 (ties count half), NaN if
      there are none of one kind; `brier`, the mean square of score minus label; `share`, of the label 1.
    """
    scores = np.asarray(head(params, jnp.asarray(data.hidden)), np.float64)
    return told_apart(scores, getattr(data, kind) > 0.5)


def told_apart(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`discrimination` of scores, float64 `[N]`, of what has the labels bool `[N]`."""
    values, ranks = np.unique(scores, return_inverse=True)
    counts = np.bincount(ranks, minlength=len(values))
    middle = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equal scores, from 1
    ones = int(labels.sum())
    pairs = ones * (len(labels) - ones)
    above = middle[ranks][labels].sum() - ones * (ones + 1) / 2
    return {
        "auc": float(above / pairs) if pairs else float("nan"),
        "brier": float(np.mean((scores - labels) ** 2)),
        "share": float(labels.mean()),
    }
