"""Training a policy of unmasking by its rewards: group-relative policy optimisation on a frozen canvas model.

The model decodes at temperature 0, so that all that differs between the roll-outs of a problem is what the policy's
coins said. Each is worth

    R = right * (1 - steps / T)^alpha,   T the positions of the canvas;   A = R - mean of R over the problem's roll-outs

and the loss is the clipped surrogate, over the steps of a roll-out:

    -mean min(r A, clip(r, 1 - e, 1 + e) A),   r = pi(chosen) / pi_old(chosen)

Legend: B roll-outs, S steps, W positions of a canvas.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import text
from jaxdec.decoding import init, run
from jaxdec.diffusion import denoise, unmask
from jaxdec.diffusion.unmask.around import Around
from jaxdec.diffusion.unmask.learned import log_likelihood, sureness
from jaxdec.generation import generated_texts, result
from jaxdec.model import Model, Params, PositionHead, Sureness
from jaxdec.models import UnmaskingConfig, build_heads
from jaxdec.training.filling import asked
from jaxdec.training.tasks import Problem, Task, TaskMixture, canvas_size
from jaxdec.training.trainer import RunConfig, descend


@dataclasses.dataclass(frozen=True)
class PolicyTraining(RunConfig):
    """A run that trains a policy of unmasking; `batch` counts roll-outs, and `length` positions of a canvas at most.

    Attributes:
      model: sizes.
      mixture: the tasks, those of the target.
      target: name of the checkpoint that it unmasks; it stays as it is.
      group: roll-outs of a problem.
      alpha: how much a step costs; 0 for nothing.
      clip: e, how far a ratio counts.
      updates: steps on the same roll-outs; divides `steps` and `checkpoint_every`.
    """

    model: UnmaskingConfig
    mixture: TaskMixture
    target: str = "tasks-mdm"
    group: int = 8
    alpha: float = 1.0
    clip: float = 0.2
    updates: int = 2

    def __post_init__(self):
        super().__post_init__()
        if self.group < 2 or self.batch % self.group:
            raise ValueError(
                f"group must be at least 2 and divide batch {self.batch}, got {self.group}"
            )
        if self.updates < 1 or self.steps % self.updates or self.checkpoint_every % self.updates:
            raise ValueError(
                f"updates must divide steps {self.steps} and checkpoint_every "
                f"{self.checkpoint_every}, got {self.updates}"
            )
        if not 0 <= self.alpha < np.inf or not 0 < self.clip < np.inf:
            raise ValueError(
                f"alpha must be at least 0 and clip positive, got {self.alpha} and {self.clip}"
            )
        longest = max(map(canvas_size, self.mixture.tasks))
        if longest > self.length:
            raise ValueError(f"length must hold canvases of {longest}, got {self.length}")


class Trace(NamedTuple):
    """What a policy saw in each step, and what it chose.

    Attributes:
      seen: arrays `[B, S, ...]`.
      chosen: bool `[B, S, W]`; nothing in steps that were not taken.
      own: the state of the policy.
    """

    seen: Sureness
    chosen: jax.Array
    own: Any


@dataclasses.dataclass(frozen=True)
class Recorded(Around):
    """A policy that keeps a `Trace` as its state, of a canvas that is one group.

    Attributes:
      steps: S.
    """

    steps: int = 1

    def init(self, params: Params, batch: int, window: int) -> Trace:
        """Nothing yet."""
        shape = (batch, self.steps, window)
        no = jnp.zeros(shape, bool)
        seen = Sureness(jnp.zeros(shape), no, no, jnp.zeros(shape[:2]))
        return Trace(seen, no, self.policy.init(params, batch, window))

    def renew(self, params: Params, state: Trace, fresh: Trace) -> Trace:
        """As it is: there is one group, and a row that has ended keeps what it was."""
        return state._replace(own=self.policy.renew(params, state.own, fresh.own))

    def choose(self, params: Params, seen: Any, state: Trace, knobs: Any) -> tuple[jax.Array, Any]:
        """As the policy."""
        reveal, own = self.policy.choose(params, seen, state.own, knobs)
        now = jnp.arange(self.steps) == seen.step[:, None]

        def put(old: jax.Array, new: jax.Array) -> jax.Array:
            at = now.reshape(*now.shape, *(1,) * (old.ndim - 2))
            return jnp.where(at, new[:, None], old)

        seen_now = jax.tree.map(put, state.seen, sureness(seen))
        return reveal, Trace(seen_now, put(state.chosen, reveal), own)


class RollOuts(NamedTuple):
    """What a step of training learns from.

    Attributes:
      seen: arrays `[B, S, ...]`.
      chosen: bool `[B, S, W]`; none in steps that were not taken.
      log_likelihood: float32 `[B, S]`, under the policy that chose.
      advantage: float32 `[B]`.
    """

    seen: Sureness
    chosen: jax.Array
    log_likelihood: jax.Array
    advantage: np.ndarray


class Played(NamedTuple):
    """Canvases that a policy filled.

    Attributes:
      trace: what it saw and chose.
      right: bool `[B]`, by the checkers.
      steps: int `[B]`, forwards.
    """

    trace: Trace
    right: np.ndarray
    steps: np.ndarray


def play(
    policy: unmask.Learned,
    target: tuple[Model, Params],
    params: Params,
    problems: list[tuple[Task, Problem]],
    *,
    key: jax.Array,
    most: int,
) -> Played:
    """Fills the canvases of problems at temperature 0, and keeps what the policy saw.

    Args:
      policy: its coins are all that is drawn.
      target: the canvas model, and its parameters.
      params: of the policy.
      problems: with their tasks.
      key: of the coins.
      most: positions of a canvas at most.
    """
    model, own = target
    decoder = denoise(model, unmask=Recorded(policy, most))
    parts = {"target": own, policy.name: params}
    request = asked(decoder, parts, problems, most)
    state, record = run(decoder, parts, init(decoder, parts, request), key)
    found = result(state, record)
    written = generated_texts(found, text.BYTES)
    each = zip(problems, written, strict=True)
    right = np.array([task.check(problem.prompt, one) for (task, problem), one in each])
    trace = jax.tree.map(np.asarray, state.parts.unmask)
    return Played(trace, right, np.asarray(found.stats.target_forwards))


def rewards(played: Played, sizes: np.ndarray, alpha: float) -> np.ndarray:
    """What canvases of `sizes [B]` positions are worth, float32 `[B]`: R."""
    left = np.clip(1 - played.steps / sizes, 0, 1)
    return np.where(played.right, left**alpha, 0).astype(np.float32)


def roll_outs(
    config: PolicyTraining,
    head: PositionHead,
    target: tuple[Model, Params],
    params: Params,
    *,
    seed: int,
    round: int,
) -> RollOuts:
    """Fresh problems, each as often as its group says; a pure function of the parameters and `(seed, round)`."""
    generator = np.random.default_rng((seed, round))
    count = config.batch // config.group
    drawn = [config.mixture.draw_with_task(generator) for _ in range(count)]
    problems = [one for one in drawn for _ in range(config.group)]
    key = jax.random.fold_in(jax.random.key(seed), round)
    policy = unmask.learned(head)
    played = play(policy, target, params, problems, key=key, most=config.length)
    worth = rewards(played, np.array([canvas_size(task) for task, _ in problems]), config.alpha)
    groups = worth.reshape(count, config.group)
    seen, chosen = played.trace.seen, played.trace.chosen
    old = _likelihood(head, params, seen, chosen)
    advantage = (groups - groups.mean(1, keepdims=True)).reshape(-1)
    return RollOuts(seen, chosen, old, advantage)


def _likelihood_of(
    head: PositionHead, params: Params, seen: Sureness, chosen: jax.Array
) -> jax.Array:
    """float32 `[B, S]`."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
    logits = head(params, Sureness(*map(jnp.asarray, flat)))
    return log_likelihood(
        logits.reshape(chosen.shape), jnp.asarray(chosen), jnp.asarray(seen.masked)
    )


_likelihood = jax.jit(_likelihood_of, static_argnums=0)


def surrogate(head: PositionHead, params: Params, batch: RollOuts, clip: float) -> jax.Array:
    """The loss, a float32 scalar; steps of a roll-out count alike, and so do roll-outs."""
    there = batch.chosen.any(-1)
    own = _likelihood_of(head, params, batch.seen, batch.chosen)
    ratio = jnp.exp(jnp.where(there, own - batch.log_likelihood, 0))
    advantage = batch.advantage[:, None]
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
    return -(jnp.where(there, gain, 0).sum(1) / jnp.maximum(there.sum(1), 1)).mean()


def train_policy(
    config: PolicyTraining,
    folder: Path,
    target: tuple[Model, Params],
    *,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> tuple[PositionHead, Params]:
    """Trains, or continues the training that a killed run left in `folder`.

    Args:
      config: the run.
      folder: as for `jaxdec.training.trainer.train`.
      target: the canvas model of bytes that solves the tasks, and its parameters.
      report: called with (steps done, loss, seconds since the start) after each step.

    Returns:
      The head and its trained parameters.

    Raises:
      ValueError: if the folder holds another run.

    Source: 2512.09106. The likelihood holds the fallback's share, which the published loss leaves out; missing is its
    steering by another policy's roll-outs.
    """
    head, params = build_heads("unmasking", config.model, seed=config.seed)
    assert isinstance(head, PositionHead)
    held: dict[int, RollOuts] = {}

    def draw(stream: TaskMixture, *, params: Params, seed: int, step: int, **_: int) -> RollOuts:
        number = step // config.updates
        if number not in held:
            held.clear()
            held[number] = roll_outs(config, head, target, params, seed=seed, round=number)
        return held[number]

    def loss(params: Params, fixed: Params, batch: RollOuts) -> jax.Array:
        return surrogate(head, params, batch, config.clip)

    mixture = config.mixture
    trained = descend(
        config, mixture, folder, params, draw, loss, fixed=target[1], on_policy=True,
        report=report,
    )  # fmt: skip
    return head, trained
