"""From a finished run of draft heads to a checkpoint that can be shipped: agreement with the target, facts and card."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.model import Heads, Inputs, Model, Params
from jaxdec.models import TransformerConfig
from jaxdec.models.heads import LAYERS
from jaxdec.training import corpus
from jaxdec.training.card import MAX_LENGTH, data_paragraph, training_sentence
from jaxdec.training.export import UNKNOWN, Origin, of_corpus, publish_heads
from jaxdec.training.heads import HeadTraining, drafts

DEPTH = 6
"""How many drafts of EAGLE are scored, which has no number of its own."""
RANKS = 8


def agreement(
    config: HeadTraining,
    heads: Heads | Model,
    params: Params,
    target: tuple[Model, Params],
    stream: np.ndarray,
    *,
    windows: int = 64,
    batch: int = 4,
) -> dict[str, Any]:
    """How well drafts agree with the target on true text, by depth.

    Args:
      config: the run.
      heads: of `build_heads`.
      params: as they are shipped.
      target: the model that they draft for, and its parameters.
      stream: integer array `[n]`.
      windows: how many of the run's length, spread evenly over the stream.
      batch: windows in a forward.

    Returns:
      `agreement_by_rank`, by depth and rank r = 0, ..., 7: the share of places where the target's likeliest token is
      the drafter's of rank r; and `overlap`, by depth: the mean overlap `sum_v min(p, q)` of the laws, which is the
      acceptance of one draft at temperature 1.

    Raises:
      ValueError: if the stream is shorter than one window.
    """
    held = corpus.spread(stream, config.length, windows, batch)
    if config.kind in LAYERS:
        unroll = DEPTH // getattr(config.model, "block", 1)
        config = dataclasses.replace(config, unroll=max(1, min(unroll, config.length - 1)))
    ranks = min(RANKS, target[0].vocab_size)

    @jax.jit
    def score(params, target_params, tokens):
        output = target[0](target_params, Inputs.causal(tokens[:, :-1]), None)
        hits, overlaps = [], []
        for (logits, _, _), _, places in drafts(config, heads, params, tokens, output):
            laws = output.logits[:, places]
            best = jax.lax.top_k(logits, ranks)[1]
            hits.append((best == jnp.argmax(laws, -1, keepdims=True)).mean((0, 1)))
            both = jnp.minimum(jax.nn.softmax(logits), jax.nn.softmax(laws))
            overlaps.append(both.sum(-1).mean())
        return jnp.stack(hits), jnp.stack(overlaps)

    scores = [score(params, target[1], jnp.asarray(tokens)) for tokens in held]
    hits, overlaps = (
        np.mean([np.asarray(x, float) for x in part], axis=0) for part in zip(*scores, strict=True)
    )
    return {
        "agreement_by_rank": hits.round(4).tolist(),
        "overlap": overlaps.round(4).tolist(),
    }


def export_heads(
    path: Path,
    name: str,
    config: HeadTraining,
    data: corpus.Corpus,
    heads: Heads | Model,
    params: Params,
    target: tuple[Model, Params],
    known: Origin = UNKNOWN,
) -> dict[str, Any]:
    """Evaluates heads as they are shipped and writes checkpoint and card, all at once or not at all.

    Args:
      path: a folder that does not exist, is empty, or holds a checkpoint of this run.
      name: of the heads.
      config: the run.
      data: its corpus.
      heads: of `build_heads`.
      params: trained parameters.
      target: the model that they draft for, and its parameters.
      known: where it comes from.

    Returns:
      The facts that the checkpoint holds.

    Raises:
      ValueError: if the folder is not free, or nothing is held out.
    """
    sizes = config.model
    if isinstance(sizes, TransformerConfig):
        sizes = dataclasses.replace(sizes, window=config.length, max_length=MAX_LENGTH)
    return publish_heads(
        path,
        config,
        data,
        params,
        known,
        kind=config.kind,
        measured=lambda stored: {
            **of_corpus(data),
            **agreement(config, heads, stored, target, data.held_out_stream()),
        },
        card=lambda facts: card(name, config, facts),
        sizes=sizes,
    )


_WHAT = {
    "medusa": "independent heads on the target's last hidden state",
    "hydra": "heads on the target's last hidden state and the drafts before them",
    "eagle": "one layer that extrapolates the target's last hidden states",
    "falcon": "a memory of the text and one layer that extrapolate the target's last hidden states {block} at a time",
    "chimera": "features of three tokens and one layer that reads the target's last hidden states",
}


def card(name: str, config: HeadTraining, facts: dict[str, Any]) -> str:
    """The card of draft heads, Markdown."""
    rows = zip(facts["agreement_by_rank"], facts["overlap"], strict=True)
    table = "\n".join(
        f"| {depth} | {hits[0]:.3f} | {sum(hits[:4]):.3f} | {sum(hits):.3f} | {overlap:.3f} |"
        for depth, (hits, overlap) in enumerate(rows, 1)
    )
    # Heads learn from the laws of the target, what predicts features from these as well.
    features = (
        f" The loss is the smooth L1 distance of features, weighed by {config.regression:g}, and the cross-entropy of "
        f"the laws, over {config.unroll} steps, the first from true features, the others from its own."
        if config.kind in LAYERS
        else ""
    )
    if config.kind == "falcon":
        features += " Of {} to {} of the drafts that were wrong, the first of a block was given away.".format(
            *config.glances
        )
    what = _WHAT[config.kind].format(block=getattr(config.model, "block", 1))
    ranks = len(facts["agreement_by_rank"][0])
    return f"""# {name}

{facts["about"]}: {facts["parameters"]:,} parameters, {what}. Weights are stored in bfloat16.

## Data

{data_paragraph(facts)}

## Training

{training_sentence(config, facts)} {config.target} is frozen; its law has the weight {config.distill:g} in the \
cross-entropy, the data {1 - config.distill:g}; a draft of depth d counts {config.decay:g}^d.{features}

## Agreement with {config.target} on held-out text

| depth | its best token is the best draft | among 4 | among {ranks} | overlap of the laws |
|---|---|---|---|---|
{table}

Depth d is the d-th draft after the pending token, given the true tokens before it; the overlap is the acceptance of a \
single draft at temperature 1.

## Limits

Drafts change no token of {config.target}, only how many forwards it takes. The heads fit that checkpoint and no other.

## Reproduce

```
{facts["command"]}
```
"""
