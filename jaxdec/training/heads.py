"""Training draft heads on a frozen target, by distillation.

Medusa and Hydra: head d at position t learns the target's law of the token at t + 1 + d, given the true tokens between,

    sum_d decay^d CE_d / sum_d decay^d,   CE_d = distill * CE(target's law) + (1 - distill) * CE(data).

EAGLE: the next feature and the law that is read from it, first from true features, then from its own as in drafting,

    sum_s decay^s [ regression * smooth-L1(f^, f) + CE_s ] / sum_s decay^s.

Legend: B rows, T tokens, K heads, D width, V vocabulary.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdec import visibility
from jaxdec.model import Heads, Inputs, Model, Output, Params, PositionHead, ScoreHead
from jaxdec.models import Eagle, HeadsConfig, TransformerConfig, build_heads, start_heads
from jaxdec.training import corpus, objectives
from jaxdec.training.objectives import Predictions
from jaxdec.training.trainer import RunConfig, descend
from pallas_kernels.span_attention import Keys


@dataclasses.dataclass(frozen=True)
class HeadTraining(RunConfig):
    """A run that trains draft heads.

    Attributes:
      kind: one of `jaxdec.models.heads.KINDS`.
      model: sizes; of EAGLE's layer, a `TransformerConfig`.
      target: name of the checkpoint that the heads draft for; it stays as it is.
      distill: weight of the target's law in the cross-entropy; the data has the rest.
      decay: of the weights of deeper drafts, in (0, 1].
      regression: weight of EAGLE's feature loss.
      unroll: steps that EAGLE takes, the first one from true features.
    """

    kind: str
    model: HeadsConfig | TransformerConfig
    target: str = "code-target"
    distill: float = 1.0
    decay: float = 0.8
    regression: float = 1.0
    unroll: int = 3

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.distill <= 1:
            raise ValueError(f"distill must lie in [0, 1], got {self.distill}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must lie in (0, 1], got {self.decay}")
        if not 1 <= self.unroll < self.length:
            raise ValueError(f"unroll must be 1 to {self.length - 1}, got {self.unroll}")
        if self.kind != "eagle" and self.depth >= self.length:
            raise ValueError(f"length must be more than the {self.depth} heads, got {self.length}")

    @property
    def depth(self) -> int:
        """Drafts that are trained: K, or the steps of the unroll."""
        return self.model.heads if isinstance(self.model, HeadsConfig) else self.unroll


def train_heads(
    config: HeadTraining,
    data: corpus.Corpus,
    folder: Path,
    target: tuple[Model, Params],
    *,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> tuple[Heads | Model, Params]:
    """Trains heads, or continues the training that a killed run left in `folder`.

    Args:
      config: the run.
      data: the corpus.
      folder: as for `jaxdec.training.trainer.train`.
      target: the frozen model and its parameters, those of a `Transformer`.
      report: called with (steps done, loss in nats, seconds since the start) after each step.

    Returns:
      The heads and their trained parameters.

    Raises:
      ValueError: if the folder holds another run, or the heads do not fit the target.
    """
    heads, params = build_heads(config.kind, config.model, seed=config.seed)
    assert not isinstance(heads, ScoreHead | PositionHead)
    params = start_heads(params, target[1])

    def loss(params, target_params, tokens):
        output = target[0](target_params, Inputs.causal(tokens[:, :-1]), None)
        return heads_loss(config, heads, params, tokens, jax.lax.stop_gradient(output))

    draw = corpus.crops
    return heads, descend(config, data, folder, params, draw, loss, fixed=target[1], report=report)


def heads_loss(
    config: HeadTraining, heads: Heads | Model, params: Params, tokens: jax.Array, output: Output
) -> jax.Array:
    """The loss in nats, over all depths.

    Args:
      config: the run.
      heads: of `build_heads`.
      params: theirs.
      tokens: int32 `[B, T + 1]`.
      output: the target's for the first T tokens.
    """
    total = weights = jnp.float32(0)
    for depth, (predictions, features) in enumerate(drafts(config, heads, params, tokens, output)):
        laws = output.logits[:, -predictions.logits.shape[1] :]
        loss = objectives.cross_entropy(predictions, laws, config.distill)
        if features is not None:
            true = output.hidden[:, -features.shape[1] :]
            loss += config.regression * optax.huber_loss(features, true).mean()
        weight = config.decay**depth
        total, weights = total + weight * loss, weights + weight
    return total / weights


def drafts(
    config: HeadTraining, heads: Heads | Model, params: Params, tokens: jax.Array, output: Output
) -> list[tuple[Predictions, jax.Array | None]]:
    """Laws of the drafts of depth 1, 2, ... after every position that has so many successors, given the true tokens.

    Those of depth d are `[B, T - d, V]`, for tokens x_{d + 1}, ..., x_T, and come with EAGLE's features.

    Args:
      config: the run.
      heads: of `build_heads`.
      params: theirs.
      tokens: int32 `[B, T + 1]`.
      output: the target's for the first T tokens.
    """
    if isinstance(heads, Model):
        return _features(config, params, tokens, output)
    found: list[tuple[Predictions, jax.Array | None]] = []
    for depth in range(1, heads.heads + 1):
        count = output.hidden.shape[1] - depth
        path = jnp.stack([tokens[:, 1 + i : 1 + i + count] for i in range(depth)], axis=-1)
        logits = heads.law(params, output.hidden[:, :count], path)
        found.append((Predictions(logits, tokens[:, depth + 1 :]), None))
    return found


def _features(
    config: HeadTraining, params: Params, tokens: jax.Array, output: Output
) -> list[tuple[Predictions, jax.Array | None]]:
    """Drafts of EAGLE, each depth reading the features of the one before.

    Step s reads the pair of place i as a draft of depth s would: it sees true pairs up to place i - s + 1, one pair of
    each step between, and itself.
    """
    assert isinstance(config.model, TransformerConfig)
    module = nnx.merge(_graphdef(config.model), params)
    length = output.hidden.shape[1] - 1
    features = output.hidden[:, :length]
    places = jnp.arange(length)
    positions = jnp.broadcast_to(places + 1, features.shape[:2])
    old: list[Keys] = []
    found: list[tuple[Predictions, jax.Array | None]] = []
    for step in range(config.unroll):
        # A chain of predictions hangs off every true pair c: it sees the true pairs up to c, and itself. The numbers of
        # true pairs leave room for it.
        origin = (positions - 1 - step) * config.unroll
        query_spans = origin + step
        stop = origin + config.unroll - 1 if step else jnp.full_like(origin, visibility.FOREVER)
        inputs = Inputs(
            tokens[:, 1 : length + 1],
            positions,
            jnp.stack([query_spans, query_spans], axis=-1),
            jnp.stack([query_spans, stop], axis=-1),
            features=features,
        )
        read: Any = module.read(inputs, *old)
        entries = read.entries.layers[0]
        old.append(Keys(entries.keys, entries.values, inputs.key_spans, positions))
        # The first `step` places have no draft of this depth.
        logits, hidden = read.logits[:, step:], read.hidden[:, step:]
        found.append((Predictions(logits, tokens[:, step + 2 :]), hidden))
        features = jnp.pad(read.hidden[:, :-1], ((0, 0), (1, 0), (0, 0)))
    return found


def _graphdef(config: TransformerConfig) -> nnx.GraphDef:
    return nnx.split(nnx.eval_shape(lambda: Eagle(config, rngs=nnx.Rngs(0))))[0]
