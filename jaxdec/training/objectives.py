"""Training objectives: what a batch asks of a model, and the loss of its answers.

Legend: B rows, T tokens, L positions of a window, Q scored positions, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdec import text, visibility
from jaxdec.any_subset import lattice, lattice_ranks, log_prob
from jaxdec.model import Inputs, Model, Params
from jaxdec.training.subsets import Subsets


class Predictions(NamedTuple):
    """What a batch asks of a model, and the answers.

    Attributes:
      logits: float32 `[B, N, V]`.
      tokens: int32 `[B, N]`, the true ones.
      weights: float32 `[B, N]`, or None if all count alike.
    """

    logits: jax.Array
    tokens: jax.Array
    weights: jax.Array | None = None


def causal(model: Model, params: Params, tokens: jax.Array) -> Predictions:
    """Next tokens, `p(x_{t+1} | x_{<=t})`.

    Args:
      model: scores the first T tokens with causal spans.
      params: its parameters.
      tokens: int32 `[B, T + 1]`.
    """
    logits = model.forward(params, Inputs.causal(tokens[:, :-1]), None).logits
    return Predictions(logits, tokens[:, 1:])


def any_subset(
    model: Model, params: Params, batch: Subsets, *, mask_token: int = text.MASK
) -> Predictions:
    """Masked tokens in lattice order, `p(x_r | x_{<r})` for ranks r past the visible ones, all in one forward.

    Every token is a content row, every scored token a query row beside it (`visibility.two_stream`).

    Args:
      model: a transformer of the contract.
      params: its parameters.
      batch: windows `[B, L]` with visible sets and Q scored positions.
      mask_token: what a query row holds in place of its token.

    Source: the joint objective of any-subset autoregressive models (2504.20456).
    """
    tokens = jnp.asarray(batch.tokens)
    ranks = lattice_ranks(jnp.asarray(batch.visible))
    count = jnp.sum(batch.visible, axis=1, keepdims=True)
    content, _ = visibility.two_stream(ranks, count)
    _, query = visibility.two_stream(jnp.take_along_axis(ranks, batch.scored, axis=1), count)
    places = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    join = lambda a, b: jnp.concatenate([a, b], axis=1)
    inputs = Inputs(
        tokens=join(tokens, jnp.full_like(batch.scored, mask_token)),
        positions=join(places, batch.scored).astype(jnp.int32),
        looks=join(content.looks, query.looks),
        lives=join(content.lives, query.lives),
    )
    logits = model.forward(params, inputs, None).logits[:, tokens.shape[1] :]
    truth = jnp.take_along_axis(tokens, batch.scored, axis=1)
    return Predictions(logits, truth, jnp.asarray(batch.weights))


def cross_entropy(
    predictions: Predictions, teacher: jax.Array | None = None, weight: float = 0.0
) -> jax.Array:
    """Mean cross-entropy in nats against the data, or against a mix of the data and a teacher's law.

        (1 - weight) * CE(data) + weight * CE(teacher),  CE(teacher) = -mean_t sum_v p_T(v) log p(v)

    The acceptance of a draft is one minus the total variation between the two laws, so a drafter learns from the
    target that it will draft for rather than from the data alone.

    Args:
      predictions: of the model.
      teacher: logits `[B, N, V]` of the target for the same tokens; not trained.
      weight: in [0, 1], traced or not.

    Returns:
      A float32 scalar.
    """
    logits, tokens, weights = predictions
    if teacher is None:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
    else:
        law = jax.nn.softmax(jax.lax.stop_gradient(teacher))
        labels = jax.nn.one_hot(tokens, logits.shape[-1])
        losses = optax.softmax_cross_entropy(logits, (1 - weight) * labels + weight * law)
    return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()


def bits_per_byte(
    model: Model, params: Params, stream, *, length: int = 512, batch: int = 16
) -> float:
    """Bits per byte of a held-out stream, every token scored once with at least `length / 2` tokens of context.

    Windows of `length` overlap by half; each scores its second half (the first window scores all). BOS and EOS are
    part of the stream and of the sum; only bytes count in the denominator.

    Args:
      model: scores windows with causal spans.
      params: its parameters.
      stream: integer array `[n]`, n > 1.
      length: tokens in a window, even.
      batch: windows in a forward.

    Raises:
      ValueError: if `length` is odd or below 2, or no byte of the stream can be scored.
    """
    if length < 2 or length % 2:
        raise ValueError(f"length must be even and at least 2, got {length}")
    half = length // 2
    stream = np.asarray(stream, np.int32)
    scored_bytes = int((stream[1:] < 256).sum())
    if not scored_bytes:
        raise ValueError(f"a stream of {len(stream)} tokens has no byte that follows another token")
    starts = np.arange(0, max(len(stream) - 1 - half, 1), half)
    padded = np.pad(stream, (0, length + 1))

    @jax.jit
    def losses(params, tokens):
        logits = model.forward(params, Inputs.causal(tokens[:, :-1]), None).logits
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])

    total = 0.0
    for group in np.array_split(starts, max(1, -(-len(starts) // batch))):
        rows = np.resize(group, batch)  # repeats rows so that every call has one shape
        tokens = padded[rows[:, None] + np.arange(length + 1)]
        nats = np.asarray(losses(params, jnp.asarray(tokens)), np.float64)[: len(group)]
        place = np.arange(length)
        counted = (place >= half) | (group[:, None] == 0)
        counted &= group[:, None] + place < len(stream) - 1
        total += float((nats * counted).sum())
    return total / np.log(2) / scored_bytes


def bits_per_masked_byte(
    model: Model,
    params: Params,
    stream,
    visible_of: Callable[[np.random.Generator], np.ndarray],
    *,
    length: int = 512,
    windows: int = 256,
    batch: int = 16,
) -> float:
    """Bits per masked byte of held-out windows under the joint law of an any-subset model, in lattice order.

    Args:
      model: answers queries.
      params: its parameters.
      stream: integer array `[n]`.
      visible_of: draws a visible set bool `[length]`; each window has a generator of its own.
      length: tokens in a window.
      windows: how many, spread evenly over the stream; fewer if it is short.
      batch: windows in a forward.

    Raises:
      ValueError: if the stream is shorter than one window.
    """
    stream = np.asarray(stream, np.int32)
    if len(stream) < length:
        raise ValueError(f"a stream of {len(stream)} tokens has no window of {length}")
    count = min(windows, max(len(stream) // length, 1))
    starts = np.linspace(0, len(stream) - length, count).astype(int)
    nats = scored = 0.0
    for group in np.array_split(np.arange(count), -(-count // batch)):
        rows = np.resize(group, batch)  # repeats rows so that every call has one shape
        tokens = stream[starts[rows][:, None] + np.arange(length)]
        visible = np.stack([visible_of(np.random.default_rng((0, int(row)))) for row in rows])
        terms = log_prob(model, params, jnp.asarray(tokens), lattice(visible))
        counted = ~visible[: len(group)]
        nats -= float(np.asarray(terms, np.float64)[: len(group)][counted].sum())
        scored += int((tokens[: len(group)][counted] < 256).sum())
    return nats / np.log(2) / scored
