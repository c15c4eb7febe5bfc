"""From a finished run on the canvases of tasks to a checkpoint that can be shipped."""

from pathlib import Path
from typing import Any

from jaxdec import text
from jaxdec.diffusion import canvas_model, denoise, refresh, schedules
from jaxdec.diffusion.unmask import quota
from jaxdec.model import Model, Params
from jaxdec.training.card import training_sentence
from jaxdec.training.export import UNKNOWN, Origin, check_free, publish, rounded, shared_facts
from jaxdec.training.filling import FillTraining, fill
from jaxdec.training.tasks import TaskMixture, problems


def one_by_one(
    model: Model,
    params: Params,
    mixture: TaskMixture,
    *,
    block: int | None = None,
    count: int = 74,
    temperature: float = 0.0,
    seed: int = 0,
) -> dict[str, float]:
    """The share of held-out problems that are solved one token a forward, the most probable first.

    Args:
      model: fills canvases of bytes.
      params: as they are shipped.
      mixture: the tasks.
      block: positions of a block, for a block-causal model; None for one that sees the whole canvas.
      count: problems of each task.
      temperature: of the draws.
      seed: of problems and draws.

    Returns:
      By task, in [0, 1].
    """
    if block is None:
        decoder = denoise(model, unmask=quota("max_prob"))
    else:
        schedule = schedules.blocks(block, from_start=True)
        decoder = denoise(
            model,
            unmask=quota("max_prob"),
            schedule=schedule,
            attention="causal",
            refresh=refresh.block(),
        )
    found = {}
    for task in mixture.tasks:
        held = problems(task, count, seed=seed, fraction=mixture.held_out)
        filled = fill(decoder, {"target": params}, task, held, temperature=temperature, seed=seed)
        found[task.name] = round(float(filled.right.mean()), 4)
    return found


def export_filler(
    path: Path,
    name: str,
    config: FillTraining,
    data: TaskMixture,
    model: Model,
    params: Params,
    known: Origin = UNKNOWN,
) -> dict[str, Any]:
    """Evaluates a model as it is shipped and writes checkpoint and card, all at once or not at all.

    Args:
      path: a folder that does not exist, is empty, or holds a checkpoint of this run.
      name: of the model.
      config: the run.
      data: its tasks.
      model: of the run, not yet wrapped to fill canvases.
      params: trained parameters.
      known: where it comes from.

    Returns:
      The facts that the checkpoint holds.

    Raises:
      ValueError: if the folder is not free.
    """
    check_free(path, known.runs)
    block = max(config.masking.blocks, default=None)
    fills, count = "canvas" if block is None else "blocks", 74
    wrapped, stored = canvas_model(model, text.MASK), rounded(params)
    facts = {
        **shared_facts(config, data, params, known.about),
        "fills": fills,
        "held_out_problems": count,
        "solved": {
            f"{temperature:g}": one_by_one(
                wrapped, stored, data, block=block, count=count, temperature=temperature
            )
            for temperature in (0.0, 1.0)
        },
        **known.facts(),
    }
    publish(
        path,
        filler_card(name, config, facts),
        config.model,
        params,
        facts=facts,
        fills=fills,
        mask_token=text.MASK,
        block_size=block,
    )
    return facts


def filler_card(name: str, config: FillTraining, facts: dict[str, Any]) -> str:
    """The card of a model that fills the canvases of tasks, Markdown."""
    sizes, mixture, blocks = config.model, config.mixture, config.masking.blocks
    rows = "\n".join(
        f"| `{task!r}` | {share:.0%} | {facts['solved']['0'][task.name]:.1%} "
        f"| {facts['solved']['1'][task.name]:.1%} |"
        for task, share in zip(mixture.tasks, mixture.shares, strict=True)
    )
    sees = "Every position sees the whole canvas, prompt and masks."
    if blocks:
        shares = ", ".join(
            f"{share:.1%} of {block}"
            for block, share in zip(blocks, config.masking.shares, strict=True)
        )
        sees = (
            "A block sees itself and the clean blocks before it, counted from the start; blocks by share of the "
            f"windows: {shares} tokens."
        )
    return f"""# {name}

{facts["about"]}: {facts["parameters"]:,} parameters, {sizes.layers} layers of width {sizes.width}, {sizes.heads} \
query heads and {sizes.kv_heads} key-value heads, a vocabulary of {sizes.vocab_size} (bytes and special tokens). \
Weights are stored in bfloat16.

## Data and accuracy

Problems of `jaxdec.training.tasks`, made as they are needed. A problem is held out iff the hash of its canonical form \
says so ({mixture.held_out:.0%}). Of {facts["held_out_problems"]} held-out problems a task, one token a forward, the \
most probable first, these are solved:

| task | share of the training | temperature 0 | temperature 1 |
|---|---|---|---|
{rows}

## Training

{training_sentence(config, facts)} The loss is the cross-entropy of masked tokens of solutions, given what is visible \
of them and their prompts, one masking rate {"a block" if blocks else "a canvas"}, uniform in [0, 1]; each window is \
used twice, with a masked set and with its complement. {sees}

## Limits

A prompt stands after BOS and is written as the tasks write it, and the canvas behind it has the size of its task \
(`training.tasks.canvas_size`), filled up with EOS. The model has seen nothing but these problems.

## Reproduce

```
{facts["command"]}
```
"""
