"""From a finished run of ADJUST's network to a checkpoint: how near its laws are to a forward's, facts and card."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.model import Model, Params
from jaxdec.training import corpus
from jaxdec.training.card import data_paragraph, training_sentence
from jaxdec.training.export import UNKNOWN, Origin, of_corpus, publish_heads
from jaxdec.training.joint import JointTraining, distances, draw, unroll


def nearness(
    config: JointTraining,
    network: Model,
    params: Params,
    target: tuple[Model, Params],
    stream: np.ndarray,
    *,
    batches: int = 16,
) -> list[list[float]]:
    """By step after a forward: the mean total variation from another forward's laws, with the network and without.

    Args:
      config: the run.
      network: of `build_heads`.
      params: as they are shipped.
      target: the frozen model and its parameters.
      stream: integer array `[n]`, held out.
      batches: how many of the run's size.

    Raises:
      ValueError: if the stream is shorter than one window.
    """

    @jax.jit
    def score(params: Params, fixed: Params, batch: Any) -> jax.Array:
        steps = unroll(config, network, params, (target[0], fixed), batch)
        return jnp.stack([distances(step) for step in steps])

    found = [
        score(
            params,
            target[1],
            draw(
                stream,
                batch=config.batch,
                length=config.length,
                seed=config.seed + 1,
                step=step,
                group=config.group,
                least=config.tokens,
            ),
        )
        for step in range(batches)
    ]
    return np.mean([np.asarray(x, float) for x in found], axis=0).round(4).tolist()


def export_joint(
    path: Path,
    name: str,
    config: JointTraining,
    data: corpus.Corpus,
    network: Model,
    params: Params,
    target: tuple[Model, Params],
    known: Origin = UNKNOWN,
) -> dict[str, Any]:
    """Evaluates a network as it is shipped and writes checkpoint and card, all at once or not at all.

    Args:
      path: a folder that does not exist, is empty, or holds a checkpoint of this run.
      name: of the network.
      config: the run.
      data: its corpus.
      network: of `build_heads`.
      params: trained parameters.
      target: the canvas model, and its parameters.
      known: where it comes from.

    Returns:
      The facts that the checkpoint holds.

    Raises:
      ValueError: if the folder is not free, or nothing is held out.
    """
    return publish_heads(
        path,
        config,
        data,
        params,
        known,
        kind=config.kind,
        measured=lambda stored: {
            **of_corpus(data),
            "distances": nearness(config, network, stored, target, data.held_out_stream()),
        },
        card=lambda facts: card(name, config, facts),
    )


def card(name: str, config: JointTraining, facts: dict[str, Any]) -> str:
    """The card of a network, Markdown."""
    table = "\n".join(
        f"| {step} | {own:.3f} | {stale:.3f} |"
        for step, (own, stale) in enumerate(facts["distances"], 1)
    )
    return f"""# {name}

{facts["about"]}: {facts["parameters"]:,} parameters, one layer over the hidden states of {config.target} and the \
tokens of a group. Weights are stored in bfloat16.

## Data

{data_paragraph(facts)}

## Training

{training_sentence(config, facts)} {config.target} is frozen, and so are its embedding and output matrix, of which \
the network has copies. In a window of {config.length} tokens a group of {config.group} is masked in part, all behind \
it is masked. After a forward the surest mask is filled with a token that is drawn, {config.tokens - 1} times, and \
after each the loss is the divergence of the network's laws from those of a forward of {config.target}, at the masks \
that are left.

## Distance from {config.target} on held-out text

| tokens since the forward | total variation from the laws of another forward | without the network |
|---|---|---|
{table}

## Limits

The network fits that checkpoint and no other, and groups of about {config.group} positions.

## Reproduce

```
{facts["command"]}
```
"""
