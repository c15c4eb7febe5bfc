"""Training a canvas model to solve tasks: cross-entropy of masked tokens of solutions, in any order, given prompts."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import text
from jaxdec.decoding import Decoder, Request
from jaxdec.generation import generate, generated_texts, prepare
from jaxdec.model import Model, Params
from jaxdec.models import TransformerConfig
from jaxdec.training import objectives
from jaxdec.training.noising import Noised, Noising, mask_canvases
from jaxdec.training.tasks import Problem, Task, TaskMixture, canvas_size, canvases
from jaxdec.training.trainer import RunConfig, build, descend

NEVER = np.isin(np.arange(text.VOCAB_SIZE), (text.BOS, text.PAD, text.MASK))
"""Tokens that no solution holds, bool `[V]`."""


@dataclasses.dataclass(frozen=True)
class FillTraining(RunConfig):
    """A run that trains a transformer to fill the canvases of tasks.

    Attributes:
      model: sizes of the transformer.
      mixture: the tasks.
      masking: masked sets of the solutions; with blocks the model is block-causal, else it sees the whole canvas.
    """

    model: TransformerConfig
    mixture: TaskMixture
    masking: Noising


def batches(
    stream: TaskMixture, *, batch: int, length: int, seed: int, step: int, masking: Noising
) -> Noised:
    """Masked windows of fresh problems.

    Args:
      stream: what they are drawn from.
      batch: B.
      length: L, at least a canvas.
      seed: of the run.
      step: of the run.
      masking: how solutions are masked.

    Raises:
      ValueError: for a canvas that is longer than a window.
    """
    held = canvases(stream, batch=batch, length=length, seed=seed, step=step)
    return mask_canvases(held, masking, np.random.default_rng((seed, step, 2)))


def train_filler(
    config: FillTraining,
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
      The model, not yet wrapped to fill canvases (`diffusion.canvas_model`), and its trained parameters.

    Raises:
      ValueError: if the folder holds another run, or a canvas is longer than a window.
    """
    model, params = build(config.model, config.seed)
    ask = objectives.block_diffusion if config.masking.blocks else objectives.masked_diffusion

    def loss(params: Params, fixed: Params, batch: Noised) -> jax.Array:
        return objectives.cross_entropy(ask(model, params, batch))

    draw = functools.partial(batches, masking=config.masking)
    return model, descend(config, config.mixture, folder, params, draw, loss, report=report)


class Filled(NamedTuple):
    """What a decoder wrote for N problems of a task.

    Attributes:
      solutions: its texts.
      right: bool `[N]`, by the task's checker.
      forwards: int `[N]`, of the model.
      tokens: int `[N]`, that were written: bytes, and EOS.
    """

    solutions: list[str]
    right: np.ndarray
    forwards: np.ndarray
    tokens: np.ndarray


def asked(
    decoder: Decoder,
    params: Mapping[str, Params],
    problems: Sequence[tuple[Task, Problem]],
    most: int,
    **settings: Any,
) -> Request:
    """A request for the canvases of problems of any tasks, at temperature 0; its tokens are bytes and EOS.

    Args:
      decoder: of a canvas model of bytes.
      params: by part.
      problems: with their tasks.
      most: positions of a canvas at most.
      **settings: further ones of `prepare`.
    """
    tokens, lengths = text.encode_batch([problem.prompt for _, problem in problems], bos=True)
    sizes = [canvas_size(task) for task, _ in problems]
    return prepare(
        decoder,
        params,
        tokens,
        lengths=lengths,
        max_new_tokens=jnp.array(sizes),
        most_new_tokens=most,
        temperature=0.0,
        banned=NEVER,
        **settings,
    )


def fill(
    decoder: Decoder,
    params: dict[str, Params],
    task: Task,
    problems: Sequence[Problem],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    **knobs: Any,
) -> Filled:
    """Decodes the canvases of problems and has the task judge what is written.

    Args:
      decoder: of a canvas model of bytes.
      params: by part.
      task: the kind of the problems.
      problems: all are decoded at once.
      temperature: of the draws; 0 for the likeliest token.
      seed: of the draws; problem i of a seed is answered alike beside any others.
      **knobs: of the decoder.
    """
    tokens, lengths = text.encode_batch([problem.prompt for problem in problems], bos=True)
    result = generate(
        decoder,
        params,
        tokens,
        lengths=lengths,
        rng=[seed * 2**20 + i for i in range(len(problems))],
        max_new_tokens=canvas_size(task),
        temperature=temperature,
        banned=NEVER,
        **knobs,
    )
    solutions = generated_texts(result, text.BYTES)
    judged = zip(problems, solutions, strict=True)
    return Filled(
        solutions,
        np.array([task.check(problem.prompt, one) for problem, one in judged]),
        np.asarray(result.stats.target_forwards),
        np.asarray(result.lengths - result.prompt_lengths),
    )
