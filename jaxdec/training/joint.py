"""Training the network of ADJUST on a frozen canvas model: what a forward would say, without the forward.

A group of a window is masked in part. Its surest mask is filled with a token that is drawn from the current law, and
again, and after each the network learns the law that the frozen model gives then, at all masks that are left:

    mean over steps and masks of KL(p_model(. | canvas^r) || p_network(. | tokens of the group, h^{r-1}))

Legend: B rows, L tokens of a window, W of a group, K tokens of a forward, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.decoding import Scored
from jaxdec.diffusion import adjust
from jaxdec.diffusion.joint import Revealed
from jaxdec.model import Inputs, Model, Params
from jaxdec.models import TransformerConfig, build_heads, start_heads
from jaxdec.training import corpus
from jaxdec.training.trainer import RunConfig, descend


@dataclasses.dataclass(frozen=True)
class JointTraining(RunConfig):
    """A run that trains the network of ADJUST.

    Attributes:
      model: sizes of its layer.
      kind: `"adjust"`.
      target: name of the canvas model that it goes on from; it stays as it is.
      tokens: K.
      group: W, positions that the network sees.
    """

    model: TransformerConfig
    kind: str = "adjust"
    target: str = "code-mdm"
    tokens: int = 4
    group: int = 32

    def __post_init__(self):
        super().__post_init__()
        if self.tokens < 2:
            raise ValueError(f"tokens must be at least 2, got {self.tokens}")
        if not self.tokens <= self.group <= self.length:
            raise ValueError(
                f"group must be {self.tokens} to {self.length} positions, got {self.group}"
            )


class Masked(NamedTuple):
    """Windows with a group that is masked in part; what stands behind the group is not known.

    Attributes:
      tokens: int32 `[B, L]`.
      start: int32 `[B]`, where the group begins.
      masked: bool `[B, W]`, positions of the group that are not known; K at least.
      seeds: int32 `[B]`, of the draws.
    """

    tokens: np.ndarray
    start: np.ndarray
    masked: np.ndarray
    seeds: np.ndarray


def draw(
    stream: np.ndarray, *, batch: int, length: int, seed: int, step: int, group: int, least: int
) -> Masked:
    """Random windows and groups, a pure function of `(seed, step)`.

    Args:
      stream: the corpus.
      batch: B.
      length: L.
      seed: of the run.
      step: of the run.
      group: W.
      least: masks of a group, at least.

    Raises:
      ValueError: if the stream is shorter than one window.
    """
    tokens = corpus.crops(stream, batch=batch, length=length, seed=seed, step=step)[:, :-1]
    generator = np.random.default_rng((seed, step, 3))
    start = generator.integers(min(8, length - group), length - group + 1, batch)
    count = generator.integers(least, group + 1, batch)
    rank = generator.random((batch, group)).argsort(1).argsort(1)
    seeds = generator.integers(0, 2**31, batch)
    i32 = lambda x: x.astype(np.int32)
    return Masked(tokens, i32(start), rank < count[:, None], i32(seeds))


class Unrolled(NamedTuple):
    """One step of an unroll.

    Attributes:
      teacher: float32 `[B, W, V]`, log-probabilities of the frozen model with what is known then.
      student: of the network.
      stale: of the forward that the network goes on from.
      masked: bool `[B, W]`, masks that are left.
    """

    teacher: jax.Array
    student: jax.Array
    stale: jax.Array
    masked: jax.Array


def unroll(
    config: JointTraining,
    network: Model,
    params: Params,
    target: tuple[Model, Params],
    batch: Masked,
) -> list[Unrolled]:
    """The K - 1 steps after a forward.

    Args:
      config: the run.
      network: of `build_heads`.
      params: its own.
      target: the frozen canvas model and its parameters.
      batch: of `draw`.
    """
    mask = target[0].mask_token
    assert mask is not None
    rule = adjust(network, mask_token=mask, tokens=config.tokens)
    places = jnp.asarray(batch.start)[:, None] + jnp.arange(config.group, dtype=jnp.int32)
    keys = jax.vmap(jax.random.key)(batch.seeds)
    tokens = jnp.take_along_axis(jnp.asarray(batch.tokens), places, axis=1)
    masked = jnp.asarray(batch.masked)
    new = jnp.zeros_like(masked)
    first = last = masked_law(target, batch, tokens, masked, places)
    found = []
    for step in range(1, config.tokens):
        law = jax.lax.stop_gradient(jax.nn.log_softmax(last.logits))
        entropy = -jnp.where(law > -jnp.inf, jnp.exp(law) * law, 0).sum(-1)
        surest = jax.nn.one_hot(
            jnp.argmin(jnp.where(masked, entropy, jnp.inf), 1), config.group, dtype=bool
        )
        keyed = jax.vmap(lambda key, at=step: jax.random.fold_in(key, at))(keys)
        drawn = jax.vmap(lambda key, row: jax.random.categorical(key, row, mode="high"))(keyed, law)
        tokens = jnp.where(surest, drawn, tokens).astype(jnp.int32)
        masked, new = masked & ~surest, new | surest
        revealed = Revealed(places, jnp.ones_like(masked), tokens, ~masked, new)
        last = rule.further(params, first, last, revealed, {})
        known = masked_law(target, batch, tokens, masked, places)
        teacher, student, stale = (jax.nn.log_softmax(x.logits) for x in (known, last, first))
        found.append(Unrolled(teacher, student, stale, masked))
    return found


def masked_law(
    target: tuple[Model, Params],
    batch: Masked,
    tokens: jax.Array,
    masked: jax.Array,
    places: jax.Array,
) -> Scored:
    """The frozen model's forward over a group, of which `tokens [B, W]` are known but for `masked [B, W]`."""
    model, params = target
    assert model.mask_token is not None
    length = batch.tokens.shape[1]
    positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), batch.tokens.shape)
    fed = jnp.where(masked, model.mask_token, tokens)
    canvas = jnp.where(positions < batch.start[:, None], batch.tokens, model.mask_token)
    put = lambda row, at, values: row.at[at].set(values)
    canvas = jax.vmap(put)(canvas.astype(jnp.int32), places, fed.astype(jnp.int32))
    inputs = Inputs(canvas, positions, *visibility.full(positions), at=places)
    output = jax.lax.stop_gradient(model(params, inputs, None))
    never = jnp.arange(model.vocab_size) == model.mask_token
    return Scored(jnp.where(never, -jnp.inf, output.logits), output.hidden)


def train_joint(
    config: JointTraining,
    data: corpus.Corpus,
    folder: Path,
    target: tuple[Model, Params],
    *,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> tuple[Model, Params]:
    """Trains the network, or continues the training that a killed run left in `folder`.

    Args:
      config: the run.
      data: the corpus.
      folder: as for `jaxdec.training.trainer.train`.
      target: the frozen canvas model, a `Transformer` whose masks see everything, and its parameters.
      report: called with (steps done, loss in nats, seconds since the start) after each step.

    Returns:
      The network and its trained parameters.

    Raises:
      ValueError: if the folder holds another run, or the network does not fit the target.
    """
    network, params = build_heads(config.kind, config.model, seed=config.seed)
    assert isinstance(network, Model)
    params = start_heads(params, target[1])

    def loss(params: Params, fixed: Params, batch: Masked) -> jax.Array:
        steps = unroll(config, network, frozen(params), (target[0], fixed), batch)
        return sum((divergence(step) for step in steps), jnp.float32(0)) / len(steps)

    ask = functools.partial(draw, group=config.group, least=config.tokens)
    return network, descend(config, data, folder, params, ask, loss, fixed=target[1], report=report)


def frozen(params: Params) -> Params:
    """The parameters of the network, of which the embedding and the output matrix are not trained."""
    held = {name: jax.lax.stop_gradient(params[name]) for name in ("embed_tokens", "lm_head")}
    return {**params, **held}


def divergence(step: Unrolled) -> jax.Array:
    """The Kullback-Leibler divergence of the network's laws from the frozen model's in nats, over the masks left."""
    law = jnp.exp(step.teacher)
    held = lambda values: jnp.where(law > 0, values, 0)  # infinite where the law is 0
    apart = (law * (held(step.teacher) - held(step.student))).sum(-1)
    return (apart * step.masked).sum() / jnp.maximum(step.masked.sum(), 1)


def distances(step: Unrolled) -> jax.Array:
    """The mean total variation from the frozen model's laws, of the network's and of the stale ones, `[2]`."""
    far = lambda law: jnp.abs(jnp.exp(step.teacher) - jnp.exp(law)).sum(-1) / 2
    mean = lambda apart: (apart * step.masked).sum() / jnp.maximum(step.masked.sum(), 1)
    return jnp.stack([mean(far(step.student)), mean(far(step.stale))])
