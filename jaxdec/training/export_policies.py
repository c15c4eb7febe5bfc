"""From a finished run of a policy of canvases to a checkpoint: a policy of unmasking, or a filter of final tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdec.decoding import Decoder
from jaxdec.diffusion import denoise, unmask
from jaxdec.model import Model, Params, PositionHead
from jaxdec.training.card import training_sentence
from jaxdec.training.export import UNKNOWN, Origin, publish_heads
from jaxdec.training.filling import fill
from jaxdec.training.finality import FinalityTraining
from jaxdec.training.policies import PolicyTraining
from jaxdec.training.tasks import TaskMixture, problems
from jaxdec.training.trainer import Source

COUNT = 32
"""Held-out problems of each task that a policy is judged on."""
Settings = Mapping[str, Mapping[str, float]]
THRESHOLD: Settings = {"threshold 0.9": {"threshold": 0.9}}
SETTINGS: dict[str, Settings] = {
    "unmasking": {f"beta {beta:g}": {"beta": beta} for beta in (0.5, 1.0, 1.5)},
    "finality": {f"filter {limit:g}": {"filter_threshold": limit} for limit in (0.98, 0.9, 0.7)},
}
"""Knobs that each kind is judged by."""


def traded(
    decoder: Decoder,
    params: dict[str, Params],
    mixture: TaskMixture,
    knobs: Mapping[str, float],
    *,
    count: int = COUNT,
    seed: int = 0,
) -> dict[str, float]:
    """What a policy solves at temperature 0, and how fast.

    Args:
      decoder: of the canvas model.
      params: of its parts.
      mixture: the tasks.
      knobs: of the decoder.
      count: held-out problems of each task.
      seed: of problems and draws.

    Returns:
      `exact`, the share that is right; `tokens_per_forward`.
    """
    right = tokens = forwards = total = 0
    for task in mixture.tasks:
        held = problems(task, count, seed=seed, fraction=mixture.held_out)
        found = fill(decoder, params, task, held, seed=seed, **knobs)
        right, total = right + int(found.right.sum()), total + len(held)
        tokens, forwards = tokens + int(found.tokens.sum()), forwards + int(found.forwards.sum())
    return {"exact": round(right / total, 4), "tokens_per_forward": round(tokens / forwards, 3)}


def export_policy(
    path: Path,
    name: str,
    config: PolicyTraining | FinalityTraining,
    data: Source,
    head: PositionHead,
    params: Params,
    target: tuple[Model, Params],
    known: Origin = UNKNOWN,
) -> dict[str, Any]:
    """Evaluates a policy as it is shipped and writes checkpoint and card, all at once or not at all.

    Args:
      path: a folder that does not exist, is empty, or holds a checkpoint of this run.
      name: of the policy.
      config: the run.
      data: what it learnt from.
      head: of the run.
      params: trained parameters.
      target: the model that it unmasks, and its parameters.
      known: where it comes from.

    Returns:
      The facts that the checkpoint holds.

    Raises:
      ValueError: if the folder is not free.
    """
    kind = "unmasking" if isinstance(config, PolicyTraining) else "finality"
    make = unmask.learned if kind == "unmasking" else unmask.learn2pd
    model, own = target
    decoders = (
        denoise(model, unmask=unmask.threshold()),
        denoise(model, unmask=make(head, name="draft")),
    )
    judged = zip(decoders, (THRESHOLD, SETTINGS[kind]), strict=True)
    return publish_heads(
        path,
        config,
        data,
        params,
        known,
        kind=kind,
        measured=lambda stored: {
            "held_out_problems": COUNT,
            "policies": {
                label: traded(decoder, {"target": own, "draft": stored}, config.mixture, knobs)
                for decoder, settings in judged
                for label, knobs in settings.items()
            },
        },
        card=lambda facts: policy_card(name, config, facts),
    )


def policy_card(name: str, config: PolicyTraining | FinalityTraining, facts: dict[str, Any]) -> str:
    """The card of a policy, Markdown."""
    rows = "\n".join(
        f"| {label} | {found['exact']:.1%} | {found['tokens_per_forward']:.2f} |"
        for label, found in facts["policies"].items()
    )
    listed = ", ".join(f"`{task!r}`" for task in config.mixture.tasks)
    return f"""# {name}

{facts["about"]}: {facts["parameters"]:,} parameters, {_WHAT[type(config)]} Weights are stored in bfloat16.

## Training

{_learnt(config)} Problems: {listed}. {training_sentence(config, facts)}

## On {facts["held_out_problems"]} held-out problems of each task, at temperature 0

| policy | exact | tokens a forward |
|---|---|---|
{rows}

## Limits

The head was trained for that checkpoint and its tasks, and knows no other model.

## Reproduce

```
{facts["command"]}
```
"""


_WHAT = {
    PolicyTraining: "a transformer over the confidences of a canvas (`diffusion.unmask.learned`).",
    FinalityTraining: "two layers on the confidences of a block (`diffusion.unmask.learn2pd`).",
}


def _learnt(config: PolicyTraining | FinalityTraining) -> str:
    if isinstance(config, PolicyTraining):
        return (
            f"Group-relative policy optimisation on {config.target}, which is frozen and decodes at temperature 0: "
            f"{config.group} roll-outs of a problem, reward right * (1 - steps / positions)^{config.alpha:g}, "
            f"{config.updates} steps on the same roll-outs, ratios clipped at {config.clip:g}."
        )
    return (
        f"Cross-entropy on what {config.target} predicts in the steps of extremely greedy parallel decoding of "
        f"{config.problems:,} problems: at which positions the most probable token is that of its own answer, one "
        "token a forward."
    )
