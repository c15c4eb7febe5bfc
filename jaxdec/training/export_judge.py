"""From a finished run of a judge of drafts to a checkpoint that can be shipped: how well it tells drafts apart."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.model import Model, Params, ScoreHead
from jaxdec.training import corpus
from jaxdec.training.card import data_paragraph, training_sentence
from jaxdec.training.export import UNKNOWN, Origin, of_corpus, publish_heads
from jaxdec.training.judging import JudgeTraining, Windows, judged
from jaxdec.training.scores import told_apart

THRESHOLD = 0.5


def quality(
    config: JudgeTraining,
    head: ScoreHead,
    params: Params,
    target: tuple[Model, Params],
    draft: tuple[Model, Params],
    stream: np.ndarray,
    *,
    windows: int = 64,
    batch: int = 4,
) -> dict[str, float]:
    """How well a judge tells drafts apart.

    Args:
      config: the run.
      head: the judge.
      params: as they are shipped.
      target: whose states it reads, and its parameters.
      draft: whose drafts it judges, and its parameters.
      stream: integer array `[n]`.
      windows: how many of the run's length, spread evenly over the stream.
      batch: windows in a forward.

    Returns:
      `auc`, `brier` and `share` as of `discrimination`, the label being that a draft is the text's own token;
      `kept_right` and `kept_wrong`, the shares of either kind that score more than 0.5.

    Raises:
      ValueError: if the stream is shorter than one window.
    """
    held = corpus.spread(stream, config.length, windows, batch)
    seeds = np.arange(len(held) * batch, dtype=np.int32).reshape(-1, batch)

    @jax.jit
    def score(params, target_params, draft_params, windows):
        models = (target[0], target_params), (draft[0], draft_params)
        hidden, right = judged(config, *models, windows)
        return head(params, hidden), right

    found = [
        score(params, target[1], draft[1], Windows(jnp.asarray(some), jnp.asarray(own)))
        for some, own in zip(held, seeds, strict=True)
    ]
    scores, right = (
        np.concatenate([np.asarray(x).ravel() for x in xs]) for xs in zip(*found, strict=True)
    )
    kept = scores > THRESHOLD
    share = lambda of: float(kept[of].mean()) if of.any() else float("nan")
    facts = told_apart(scores.astype(np.float64), right)
    facts |= {"kept_right": share(right), "kept_wrong": share(~right)}
    return {name: round(value, 4) for name, value in facts.items()}


def export_judge(
    path: Path,
    name: str,
    config: JudgeTraining,
    data: corpus.Corpus,
    head: ScoreHead,
    params: Params,
    target: tuple[Model, Params],
    draft: tuple[Model, Params],
    known: Origin = UNKNOWN,
) -> dict[str, Any]:
    """Evaluates a judge as it is shipped and writes checkpoint and card, all at once or not at all.

    Args:
      path: a folder that does not exist, is empty, or holds a checkpoint of this run.
      name: of the judge.
      config: the run.
      data: its corpus.
      head: of the run.
      params: trained parameters.
      target: whose states it reads, and its parameters.
      draft: whose drafts it judges, and its parameters.
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
            "judgement": quality(config, head, stored, target, draft, data.held_out_stream()),
        },
        card=lambda facts: card(name, config, facts),
    )


def card(name: str, config: JudgeTraining, facts: dict[str, Any]) -> str:
    """The card of a judge, Markdown."""
    found = facts["judgement"]
    return f"""# {name}

{facts["about"]}: {facts["parameters"]:,} parameters, one linear layer on the last hidden state of {config.target} \
after a drafted token. Its score, in (0, 1), says whether the draft is right. Weights are stored in bfloat16.

## Data

{data_paragraph(facts)} Each token but the first is drafted anew by {config.draft} at temperature \
{config.temperature:g}, given the text before it; a draft is right where it is the text's own token.

## Training

{training_sentence(config, facts)} {config.target} and {config.draft} are frozen; the loss is the mean of the \
cross-entropies of right drafts and of wrong ones.

## Drafts of {config.draft} on held-out text

| right | area under the curve | right ones kept | wrong ones kept |
|---|---|---|---|
| {found["share"]:.3f} | {found["auc"]:.3f} | {found["kept_right"]:.3f} | {found["kept_wrong"]:.3f} |

A draft is kept where its score is above {THRESHOLD:g}.

## Limits

The judge fits that checkpoint and no other. A draft that differs from the text may be as good as the text: errors are \
told by the text alone, not by a checker.

## Reproduce

```
{facts["command"]}
```
"""
