"""Training a filter of final tokens on what an oracle would commit: extremely greedy parallel decoding.

    1. y: what the model writes one token a forward, the most probable first
    2. the canvas again; in each step c_i = max p_i and l_i = [argmax p_i = y_i] at every position; what is masked and
       has l_i = 1 is committed; a step that predicts what the step before did ends the canvas

and the loss is the cross-entropy of l given c.

Legend: N steps, B of a batch, W positions of a block.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdec.decoding import init, run
from jaxdec.diffusion import Candidates, Unmask, denoise, unmask
from jaxdec.model import Model, Params, PositionHead, Sureness
from jaxdec.models import FinalityConfig, build_heads
from jaxdec.training.filling import asked
from jaxdec.training.tasks import Problem, Task, TaskMixture, canvas_size
from jaxdec.training.trainer import RunConfig, descend, fingerprint


@dataclasses.dataclass(frozen=True)
class FinalityTraining(RunConfig):
    """A run that trains a filter; `batch` counts steps of canvases, `length` is the positions of a canvas at most.

    Attributes:
      model: sizes; a block holds a canvas.
      mixture: the tasks, those of the target.
      target: name of the checkpoint that it filters; it stays as it is.
      problems: that the target solves for it.
    """

    model: FinalityConfig
    mixture: TaskMixture
    target: str = "tasks-mdm"
    problems: int = 1024

    def __post_init__(self):
        super().__post_init__()
        if self.problems < 1:
            raise ValueError(f"problems must be at least 1, got {self.problems}")
        longest = max(map(canvas_size, self.mixture.tasks))
        if not longest <= self.length <= self.model.window:
            raise ValueError(
                f"a canvas of {longest} must fit length {self.length}, and that the window of {self.model.window}"
            )


class Steps(NamedTuple):
    """Steps of canvases, as the filter is to see them.

    Attributes:
      confidence: float32 `[N, W]`.
      there: bool `[N, W]`, positions of the canvas.
      final: float32 `[N, W]`, 1 where the most probable token is that of the answer.
    """

    confidence: np.ndarray
    there: np.ndarray
    final: np.ndarray

    def fingerprint(self) -> str:
        """A hash: equal steps have equal fingerprints."""
        return fingerprint(self)

    def train_stream(self) -> "Steps":
        """What batches are drawn from."""
        return self


class _Greedy(NamedTuple):
    """What was seen in each step, `[B, S, W]`, whether it was taken `[B, S]`, and the predictions before, `[B, W]`."""

    confidence: jax.Array
    final: jax.Array
    taken: jax.Array
    before: jax.Array


@dataclasses.dataclass(frozen=True)
class ExtremelyGreedy(Unmask):
    """Commits what the answer holds. Its params are the answers, int32 `[B, W]`, of canvases that are one group.

    Attributes:
      steps: S, of which it keeps what it saw.
    """

    steps: int
    name: str = "answers"

    def init(self, params: Params, batch: int, window: int) -> _Greedy:
        """Nothing yet."""
        no = jnp.zeros((batch, self.steps, window), bool)
        before = jnp.full((batch, window), -1, jnp.int32)
        return _Greedy(jnp.zeros(no.shape), no, no.any(-1), before)

    def renew(self, params: Params, state: _Greedy, fresh: _Greedy) -> _Greedy:
        """As it is: a row that has ended keeps what it was."""
        return state

    def choose(
        self, params: Params, seen: Candidates, state: _Greedy, knobs: Any
    ) -> tuple[jax.Array, Any]:
        """What is right; all, once nothing changes."""
        there = seen.allowed | seen.committed
        right = (seen.likeliest == params) & there
        stuck = ((seen.likeliest == state.before) | ~there).all(-1, keepdims=True)
        now = (jnp.arange(self.steps) == seen.step[:, None]) & ~stuck
        sure = jnp.where(there, seen.score("max_prob"), 1.0)
        put = lambda old, new: jnp.where(now[..., None], new[:, None], old)
        after = _Greedy(
            put(state.confidence, sure), put(state.final, right), state.taken | now, seen.likeliest
        )
        return seen.allowed & (right | stuck), after

    def patience(self, params: Params, seen: Candidates, knobs: Any) -> jax.Array:
        """It may wait for a step that predicts the same."""
        return seen.opened + 1


def oracle_steps(
    target: tuple[Model, Params], problems: list[tuple[Task, Problem]], *, most: int, window: int
) -> Steps:
    """The steps of extremely greedy parallel decoding.

    Args:
      target: the canvas model, and its parameters.
      problems: with their tasks.
      most: positions of a canvas at most.
      window: W.
    """
    model, params = target
    sizes = np.array([canvas_size(task) for task, _ in problems])

    def filled(policy: Unmask, **parts: Any) -> Any:
        decoder, held = denoise(model, unmask=policy), {"target": params, **parts}
        request = asked(decoder, held, problems, most, eos=())
        return run(decoder, held, init(decoder, held, request), 0)[0]

    first = filled(unmask.quota("max_prob"))
    starts = first.rows.prompt_length[:, None]
    at = jnp.minimum(starts + jnp.arange(first.room), first.canvas.tokens.shape[1] - 1)
    answers = jnp.take_along_axis(first.canvas.tokens, at, axis=1)
    state = filled(ExtremelyGreedy(most + 2), answers=answers)
    found = jax.tree.map(np.asarray, state.parts.unmask)
    taken, size = found.taken, found.final.shape[-1]
    there = np.broadcast_to((np.arange(size) < sizes[:, None])[:, None], found.final.shape)
    fit = lambda x, fill: np.pad(x, ((0, 0), (0, max(window - size, 0))), constant_values=fill)[
        :, :window
    ]
    return Steps(
        fit(found.confidence[taken], 1).astype(np.float32),
        fit(there[taken], False),
        fit(found.final[taken], False).astype(np.float32),
    )


def steps_of(config: FinalityTraining, target: tuple[Model, Params], *, batch: int = 128) -> Steps:
    """What the run learns from: problems that are not held out."""
    generator = np.random.default_rng((config.seed, 3))
    drawn = [config.mixture.draw_with_task(generator) for _ in range(config.problems)]
    drawn += drawn[: -len(drawn) % batch]  # one shape for all
    some = [
        oracle_steps(
            target, drawn[start : start + batch], most=config.length, window=config.model.window
        )
        for start in range(0, len(drawn), batch)
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *some)


def draw(stream: Steps, *, batch: int, length: int, seed: int, step: int) -> Steps:
    """Random steps, a pure function of `(seed, step)`."""
    at = np.random.default_rng((seed, step)).integers(0, len(stream.final), batch)
    return jax.tree.map(lambda x: x[at], stream)


def cross_entropy(head: PositionHead, params: Params, batch: Steps) -> jax.Array:
    """The loss of a filter in nats, over all positions of the canvases."""
    there = jnp.asarray(batch.there)
    seen = Sureness(jnp.asarray(batch.confidence), there, there, jnp.ones(len(there)))
    each = optax.sigmoid_binary_cross_entropy(head(params, seen), batch.final)
    return jnp.where(there, each, 0).sum() / there.sum()


def train_filter(
    config: FinalityTraining,
    data: Steps,
    folder: Path,
    *,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> tuple[PositionHead, Params]:
    """Trains a filter, or continues the training that a killed run left in `folder`.

    Args:
      config: the run.
      data: of `steps_of`.
      folder: as for `jaxdec.training.trainer.train`.
      report: called with (steps done, loss in nats, seconds since the start) after each step.

    Returns:
      The head and its trained parameters.

    Raises:
      ValueError: if the folder holds another run.

    Source: Learn2PD 2509.25188.
    """
    head, params = build_heads("finality", config.model, seed=config.seed)
    assert isinstance(head, PositionHead)
    loss = lambda params, fixed, batch: cross_entropy(head, params, batch)
    return head, descend(config, data, folder, params, draw, loss, report=report)
