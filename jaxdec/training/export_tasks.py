"""From a finished run on tasks to a checkpoint: a solver, causal or of canvases, or a head that scores steps."""

from pathlib import Path
from typing import Any

from jaxdec.model import Model, Params, ScoreHead
from jaxdec.training.card import training_sentence
from jaxdec.training.export import (
    UNKNOWN,
    Origin,
    check_free,
    publish,
    publish_heads,
    rounded,
    shared_facts,
)
from jaxdec.training.roll_outs import RollOuts, accuracy, sample
from jaxdec.training.scores import ScoreTraining, discrimination, roll_outs_of
from jaxdec.training.solving import TaskTraining
from jaxdec.training.tasks import TaskMixture, problems

SAMPLES = 8
"""Solutions of a problem that a vote is among."""


def solved(
    model: Model,
    params: Params,
    mixture: TaskMixture,
    *,
    count: int = 128,
    temperature: float = 1.0,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """How well a model solves problems that are held out.

    Args:
      model: a causal byte model.
      params: as they are shipped.
      mixture: the tasks.
      count: problems of each.
      temperature: of the samples.
      seed: of problems and samples.

    Returns:
      By task: `greedy`, the accuracy at temperature 0; `each`, `voted` and `any` of 8 samples (`accuracy`).
    """
    found = {}
    for task in mixture.tasks:
        held = problems(task, count, seed=seed, fraction=mixture.held_out)
        prompts = [problem.prompt for problem in held]
        one = sample(model, params, prompts, temperature=0.0, seed=seed)
        many = sample(model, params, prompts, samples=SAMPLES, temperature=temperature, seed=seed)
        scores = accuracy(task, held, many)
        found[task.name] = {"greedy": accuracy(task, held, one)["each"], **scores}
    return {name: {k: round(v, 4) for k, v in scores.items()} for name, scores in found.items()}


def export_solver(
    path: Path,
    name: str,
    config: TaskTraining,
    data: TaskMixture,
    model: Model,
    params: Params,
    known: Origin = UNKNOWN,
) -> dict[str, Any]:
    """Evaluates a solver as it is shipped and writes checkpoint and card, all at once or not at all.

    Args:
      path: a folder that does not exist, is empty, or holds a checkpoint of this run.
      name: of the model.
      config: the run.
      data: its tasks.
      model: of the run.
      params: trained parameters.
      known: where it comes from.

    Returns:
      The facts that the checkpoint holds.

    Raises:
      ValueError: if the folder is not free.
    """
    check_free(path, known.runs)
    count = 128
    facts = {
        **shared_facts(config, data, params, known.about),
        "held_out_problems": count,
        "accuracy": solved(model, rounded(params), data, count=count),
        **known.facts(),
    }
    publish(path, solver_card(name, config, facts), config.model, params, facts=facts)
    return facts


def export_scores(
    path: Path,
    name: str,
    config: ScoreTraining,
    data: TaskMixture,
    head: ScoreHead,
    params: Params,
    target: tuple[Model, Params],
    known: Origin = UNKNOWN,
) -> dict[str, Any]:
    """Evaluates a head as it is shipped and writes checkpoint and card, all at once or not at all.

    Args:
      path: a folder that does not exist, is empty, or holds a checkpoint of this run.
      name: of the head.
      config: the run.
      data: its tasks.
      head: of the run.
      params: trained parameters.
      target: the model whose states it reads, and its parameters.
      known: where it comes from.

    Returns:
      The facts that the checkpoint holds.

    Raises:
      ValueError: if the folder is not free.
    """

    def measured(stored: Params) -> dict[str, Any]:
        held = roll_outs_of(config, target, held_out=True)
        told = lambda i: _rounded(discrimination(head, stored, _of(held, i), config.kind))
        return {
            "held_out_prefixes": len(held.tasks),
            "discrimination": {task.name: told(i) for i, task in enumerate(data.tasks)},
        }

    card = lambda facts: scores_card(name, config, facts)
    return publish_heads(
        path, config, data, params, known, kind=config.kind, measured=measured, card=card
    )


def _of(data: RollOuts, task: int) -> RollOuts:
    """Those of one task."""
    own = data.tasks == task
    return RollOuts(data.hidden[own], data.reward[own], data.value[own], data.tasks[own])


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}


def _tasks(data: TaskMixture) -> str:
    """What a card says of the problems."""
    listed = ", ".join(
        f"{share:.0%} `{task!r}`" for task, share in zip(data.tasks, data.shares, strict=True)
    )
    return f"""Problems of `jaxdec.training.tasks`, made as they are needed, with solutions in written steps: \
{listed}. A problem is held out iff the hash of its canonical form says so ({data.held_out:.0%})."""


def solver_card(name: str, config: TaskTraining, facts: dict[str, Any]) -> str:
    """The card of a solver, Markdown."""
    sizes = config.model
    rows = "\n".join(
        f"| {task} | {s['greedy']:.3f} | {s['each']:.3f} | {s['voted']:.3f} | {s['any']:.3f} |"
        for task, s in facts["accuracy"].items()
    )
    return f"""# {name}

{facts["about"]}: {facts["parameters"]:,} parameters, {sizes.layers} layers of width {sizes.width}, {sizes.heads} \
query heads and {sizes.kv_heads} key-value heads, a vocabulary of {sizes.vocab_size} (bytes and special tokens). \
Weights are stored in bfloat16.

## Data

{_tasks(config.mixture)}

## Training

{training_sentence(config, facts)} The loss is the cross-entropy of solutions, given their prompts; each problem \
stands between BOS and EOS and is seen by itself alone.

## Accuracy on {facts["held_out_problems"]} held-out problems of each task

| task | temperature 0 | one sample at temperature 1 | vote of {SAMPLES} | any of {SAMPLES} |
|---|---|---|---|---|
{rows}

A solution is right if every step of it is, by the task's checker; a vote is right if a right solution gives the \
commonest answer.

## Limits

A prompt stands after BOS and is written as the tasks write it. The model has seen nothing but these problems; texts \
of up to {sizes.max_length} tokens can be decoded.

## Reproduce

```
{facts["command"]}
```
"""


_WHAT = {
    "reward": "whether the steps so far can still be completed to a right solution",
    "value": "the probability that the model's own continuation is right",
}


def scores_card(name: str, config: ScoreTraining, facts: dict[str, Any]) -> str:
    """The card of a head that scores steps, Markdown."""
    rows = "\n".join(
        f"| {task} | {s['auc']:.3f} | {s['brier']:.3f} | {s['share']:.3f} |"
        for task, s in facts["discrimination"].items()
    )
    return f"""# {name}

{facts["about"]}: {facts["parameters"]:,} parameters, two layers on the last hidden state of {config.target} where a \
step ends. Its score, in (0, 1), is {_WHAT[config.kind]}. Weights are stored in bfloat16.

## Data

{config.samples} solutions at temperature {config.temperature:g} that {config.target} wrote for each of \
{config.problems} problems a task, labelled by the tasks' checkers at every step's end. {_tasks(config.mixture)}

## Training

{training_sentence(config, facts)} {config.target} is frozen; a window is a document, of which one prefix is drawn.

## On {facts["held_out_prefixes"]:,} prefixes of held-out problems

| task | area under the curve | mean square error | share of the label 1 |
|---|---|---|---|
{rows}

## Limits

The head fits that checkpoint and no other, and reads states at a line's end or at EOS.

## Reproduce

```
{facts["command"]}
```
"""
