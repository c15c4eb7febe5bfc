"""Training draft heads on a frozen target, by distillation.

Medusa and Hydra: head d at position t learns the target's law of the token at t + 1 + d, given the true tokens between,

    sum_d decay^d CE_d / sum_d decay^d,   CE_d = distill * CE(target's law) + (1 - distill) * CE(data).

EAGLE: the next feature and the law that is read from it, first from true features, then from its own as in drafting,

    sum_s decay^s [ regression * smooth-L1(f^, f) + CE_s ] / sum_s decay^s.

Chimera: as EAGLE. Falcon: the same over the depths of its blocks (`jaxdec.training.falcon`).

Legend: B rows, T tokens, K heads, D width, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxdec import visibility
from jaxdec.model import Heads, Inputs, Model, Output, Params, PositionHead, ScoreHead
from jaxdec.models import FalconConfig, HeadsConfig, TransformerConfig, build_heads, start_heads
from jaxdec.models.heads import KINDS, LAYERS
from jaxdec.training import corpus, falcon, objectives
from jaxdec.training.drafted import Drafted
from jaxdec.training.objectives import Predictions
from jaxdec.training.trainer import RunConfig, descend
from pallas_kernels.span_attention import Keys


@dataclasses.dataclass(frozen=True)
class HeadTraining(RunConfig):
    """A run that trains draft heads.

    Attributes:
      kind: one of `jaxdec.models.heads.KINDS`.
      model: sizes, of the type `jaxdec.models.heads.sizes_of(kind)`.
      target: name of the checkpoint that the heads draft for; it stays as it is.
      distill: weight of the target's law in the cross-entropy; the data has the rest.
      decay: of the weights of deeper drafts, in (0, 1].
      regression: weight of the feature loss of what predicts features.
      unroll: forwards in a row of these, the first one from true features.
      glances: lambda at the start and the end, of Falcon.
    """

    kind: str
    model: HeadsConfig | TransformerConfig
    target: str = "code-target"
    distill: float = 1.0
    decay: float = 0.8
    regression: float = 1.0
    unroll: int = 3
    glances: tuple[float, float] = (0.45, 0.1)

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.distill <= 1:
            raise ValueError(f"distill must lie in [0, 1], got {self.distill}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must lie in (0, 1], got {self.decay}")
        if not 1 <= self.unroll < self.length:
            raise ValueError(f"unroll must be 1 to {self.length - 1}, got {self.unroll}")
        if not all(0 <= share <= 1 for share in self.glances):
            raise ValueError(f"glances must lie in [0, 1], got {self.glances}")
        if self.kind not in LAYERS and self.depth >= self.length:
            raise ValueError(f"length must be more than the {self.depth} heads, got {self.length}")

    @property
    def depth(self) -> int:
        """Drafts that are trained: K, or the steps of the unroll."""
        if isinstance(self.model, HeadsConfig):
            return self.model.heads
        return self.unroll * getattr(self.model, "block", 1)


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

    def loss(params, target_params, batch):
        tokens, *glance = batch if config.kind == "falcon" else (batch,)
        output = target[0](target_params, Inputs.causal(tokens[:, :-1]), None)
        output = jax.lax.stop_gradient(output)
        return heads_loss(config, heads, params, tokens, output, tuple(glance))

    draw: Any = corpus.crops
    if config.kind == "falcon":
        draw = functools.partial(falcon.draw, shares=config.glances, steps=config.steps)
    return heads, descend(config, data, folder, params, draw, loss, fixed=target[1], report=report)


def heads_loss(
    config: HeadTraining,
    heads: Heads | Model,
    params: Params,
    tokens: jax.Array,
    output: Output,
    glance: tuple[jax.Array, ...] = (),
) -> jax.Array:
    """The loss in nats, over all depths.

    Args:
      config: the run.
      heads: of `build_heads`.
      params: theirs.
      tokens: int32 `[B, T + 1]`.
      output: the target's for the first T tokens.
      glance: of Falcon, `(chance, share)` of `jaxdec.training.falcon.Glanced`.
    """
    total = weights = jnp.float32(0)
    found = drafts(config, heads, params, tokens, output, glance)
    for depth, (predictions, features, places) in enumerate(found):
        loss = objectives.cross_entropy(predictions, output.logits[:, places], config.distill)
        if features is not None:
            errors = optax.huber_loss(features, output.hidden[:, places]).mean(-1)
            weights_of = predictions.weights
            if weights_of is None:
                weights_of = jnp.ones_like(errors)
            loss += config.regression * (errors * weights_of).sum() / weights_of.sum()
        weight = config.decay**depth
        total, weights = total + weight * loss, weights + weight
    return total / weights


def drafts(
    config: HeadTraining,
    heads: Heads | Model,
    params: Params,
    tokens: jax.Array,
    output: Output,
    glance: tuple[jax.Array, ...] = (),
) -> list[Drafted]:
    """Laws of the drafts of depth 1, 2, ... after every position that has so many successors, given the true tokens.

    Those of depth d are `[B, T - d, V]`, for tokens x_{d + 1}, ..., x_T; of Falcon those at the ends of blocks alone.

    Args:
      config: the run.
      heads: of `build_heads`.
      params: theirs.
      tokens: int32 `[B, T + 1]`.
      output: the target's for the first T tokens.
      glance: of Falcon, see `heads_loss`.
    """
    if isinstance(config.model, FalconConfig):
        given = (glance[0], glance[1]) if glance else None
        return falcon.drafts(config.model, params, tokens, output, config.unroll, given)
    if isinstance(heads, Model):
        return _features(config, heads, params, tokens, output)
    found: list[Drafted] = []
    for depth in range(1, heads.heads + 1):
        count = output.hidden.shape[1] - depth
        path = jnp.stack([tokens[:, 1 + i : 1 + i + count] for i in range(depth)], axis=-1)
        logits = heads.law(params, output.hidden[:, :count], path)
        places = np.arange(depth, depth + count)
        found.append(Drafted(Predictions(logits, tokens[:, depth + 1 :]), None, places))
    return found


def _features(
    config: HeadTraining, heads: Model, params: Params, tokens: jax.Array, output: Output
) -> list[Drafted]:
    """Drafts of EAGLE or Chimera, each depth reading the features of the one before.

    Step s reads the pair of place i as a draft of depth s would: it sees true pairs up to place i - s + 1, one pair of
    each step between, and itself.
    """
    assert isinstance(config.model, TransformerConfig)
    module: Any = nnx.merge(_graphdef(config.kind, config.model), params)
    width, length = output.hidden.shape[-1], output.hidden.shape[1] - 1
    features = heads.features(params, output)[:, :length]
    places = jnp.arange(length)
    positions = jnp.broadcast_to(places + 1, features.shape[:2]).astype(jnp.int32)
    old: list[Keys] = []
    found: list[Drafted] = []
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
        read = module.read(inputs, *old)
        entries = getattr(read.entries, "slots", read.entries)
        positions_of, entries = entries.positions, entries.layers[0]
        old.append(Keys(entries.keys, entries.values, inputs.key_spans, positions_of))
        # The first `step` places have no draft of this depth.
        logits, hidden = read.logits[:, step:], read.hidden[:, step:, :width]
        predictions = Predictions(logits, tokens[:, step + 2 :])
        found.append(Drafted(predictions, hidden, np.arange(step + 1, length + 1)))
        features = jnp.pad(read.hidden[:, :-1], ((0, 0), (1, 0), (0, 0)))
    return found


def _graphdef(kind: str, config: TransformerConfig) -> nnx.GraphDef:
    return nnx.split(nnx.eval_shape(lambda: KINDS[kind](config, rngs=nnx.Rngs(0))))[0]
