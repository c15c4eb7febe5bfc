"""Training a causal model to solve tasks: cross-entropy of written solutions, given their prompts."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.model import Inputs, Model, Params
from jaxdec.models import TransformerConfig
from jaxdec.training import objectives
from jaxdec.training.objectives import Predictions
from jaxdec.training.tasks import Packed, TaskMixture, windows
from jaxdec.training.trainer import RunConfig, build, descend


@dataclasses.dataclass(frozen=True)
class TaskTraining(RunConfig):
    """A run that trains a transformer on tasks.

    Attributes:
      model: sizes of the transformer.
      mixture: the tasks.
    """

    model: TransformerConfig
    mixture: TaskMixture


def solutions(model: Model, params: Params, batch: Packed) -> Predictions:
    """Next tokens of packed documents, each given its own document alone, `p(x_{t+1} | BOS ... x_t)`.

    Args:
      model: scores the first L tokens of each window.
      params: its parameters.
      batch: windows `[B, L + 1]`.

    Returns:
      Predictions `[B, L, V]` that weigh the tokens of solutions by 1 and others by 0.
    """
    tokens = jnp.asarray(batch.tokens)
    places = jnp.broadcast_to(jnp.arange(tokens.shape[1] - 1, dtype=jnp.int32), batch.stops.shape)
    spans = visibility.causal(places)
    keys = jnp.stack([places, jnp.asarray(batch.stops)], axis=-1)
    inputs = Inputs(tokens[:, :-1], jnp.asarray(batch.positions), spans.query_spans, keys)
    logits = model(params, inputs, None).logits
    return Predictions(logits, tokens[:, 1:], jnp.asarray(batch.weights))


def train_solver(
    config: TaskTraining,
    folder: Path,
    *,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> tuple[Model, Params]:
    """Trains, or continues the training that a killed run left in `folder`.

    Args:
      config: the run; a folder continues only the configuration that it was started with, with as many steps or more.
      folder: as for `jaxdec.training.trainer.train`.
      report: called with (steps done, loss in nats, seconds since the start) after each step.

    Returns:
      The model and its trained parameters.

    Raises:
      ValueError: if the folder holds another run, or a document is longer than a window.
    """
    model, params = build(config.model, config.seed)

    def loss(params: Params, fixed: Params, batch: Packed) -> jax.Array:
        return objectives.cross_entropy(solutions(model, params, batch))

    return model, descend(config, config.mixture, folder, params, windows, loss, report=report)
