"""Training a judge of drafts on a frozen target: a linear head on its state after a drafted token.

A draft is right where it is the text's own token,

    x ~ q(. | text before),   right iff x = text,   l = w . h(text before, x) + b,

and errors weigh as much as right drafts do together: the loss is the mean of the cross-entropies of both kinds.

Legend: B rows, T tokens, D width.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdec.model import Inputs, Model, Params, ScoreHead
from jaxdec.models import ScoreConfig, build_heads
from jaxdec.sampling import gumbel
from jaxdec.training import corpus
from jaxdec.training.trainer import RunConfig, descend


@dataclasses.dataclass(frozen=True)
class JudgeTraining(RunConfig):
    """A run that trains a judge.

    Attributes:
      model: sizes; a linear head has no inner width.
      target: name of the checkpoint whose states it reads; it stays as it is.
      draft: name of the checkpoint whose drafts it judges.
      temperature: of the drafts.
      kind: of the head.
    """

    model: ScoreConfig
    target: str = "code-target"
    draft: str = "code-draft"
    temperature: float = 1.0
    kind: str = "judge"

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.temperature < np.inf:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.kind != "judge":
            raise ValueError(f"kind must be judge, got {self.kind!r}")


class Windows(NamedTuple):
    """Text, and what its drafts are drawn by.

    Attributes:
      tokens: int32 `[B, T + 1]`.
      seeds: int32 `[B]`.
    """

    tokens: jax.Array | np.ndarray
    seeds: jax.Array | np.ndarray


def draw(stream: np.ndarray, *, batch: int, length: int, seed: int, step: int) -> Windows:
    """Random windows, a pure function of `(seed, step)`."""
    tokens = corpus.crops(stream, batch=batch, length=length, seed=seed, step=step)
    return Windows(tokens, (step * batch + np.arange(batch)).astype(np.int32))


def judged(
    config: JudgeTraining,
    target: tuple[Model, Params],
    draft: tuple[Model, Params],
    windows: Windows,
) -> tuple[jax.Array, jax.Array]:
    """States of the target after one draft in place of each token but the first, and which drafts are right.

    One forward reads the text and, hanging off each prefix of it, the draft that follows.

    Args:
      config: the run.
      target: the model whose states are read, and its parameters.
      draft: the model that drafts, and its parameters.
      windows: text.

    Returns:
      `[B, T, D]`, bool `[B, T]`.
    """
    tokens = jnp.asarray(windows.tokens)
    before, after = tokens[:, :-1], tokens[:, 1:]
    law = draft[0](draft[1], Inputs.causal(before), None).logits / config.temperature
    keys = jax.vmap(jax.random.key)(jnp.asarray(windows.seeds))
    noise = gumbel(keys, law.shape[1] * law.shape[2]).reshape(law.shape)
    drafts = jnp.argmax(law + noise, axis=-1).astype(jnp.int32)
    places = jnp.broadcast_to(jnp.arange(before.shape[1], dtype=jnp.int32), before.shape)
    # Text at place i has the number 2 i; a draft at place i + 1, seen by itself alone, the number 2 i + 1.
    numbers = jnp.concatenate([2 * places, 2 * places + 1], axis=1)
    stops = jnp.concatenate([jnp.full_like(places, 2 * places.shape[1]), 2 * places + 1], axis=1)
    inputs = Inputs(
        jnp.concatenate([before, drafts], axis=1),
        jnp.concatenate([places, places + 1], axis=1),
        jnp.stack([numbers, numbers], axis=-1),
        jnp.stack([numbers, stops], axis=-1),
    )
    hidden = target[0](target[1], inputs, None).hidden[:, before.shape[1] :]
    return hidden, drafts == after


def train_judge(
    config: JudgeTraining,
    data: corpus.Corpus,
    folder: Path,
    target: tuple[Model, Params],
    draft: tuple[Model, Params],
    *,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> tuple[ScoreHead, Params]:
    """Trains a judge, or continues the training that a killed run left in `folder`.

    Args:
      config: the run.
      data: the corpus.
      folder: as for `jaxdec.training.trainer.train`.
      target: the frozen model and its parameters.
      draft: the model that drafts, and its parameters.
      report: called with (steps done, loss in nats, seconds since the start) after each step.

    Returns:
      The head and its trained parameters.

    Raises:
      ValueError: if the folder holds another run.
    """
    head, params = build_heads(config.kind, config.model, seed=config.seed)
    assert isinstance(head, ScoreHead)

    def loss(params: Params, fixed: Params, windows: Windows) -> jax.Array:
        models = (target[0], fixed["target"]), (draft[0], fixed["draft"])
        hidden, right = judged(config, *models, windows)
        logits = head.logit(params, jax.lax.stop_gradient(hidden))
        each = optax.sigmoid_binary_cross_entropy(logits, right.astype(jnp.float32))
        kinds = jnp.stack([right, ~right])
        return ((each * kinds).sum((1, 2)) / jnp.maximum(kinds.sum((1, 2)), 1)).mean()

    fixed = {"target": target[1], "draft": draft[1]}
    return head, descend(config, data, folder, params, draw, loss, fixed=fixed, report=report)
