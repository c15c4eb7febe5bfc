"""Training objectives: what a batch asks of a model, and the loss of its answers.

Legend: B rows, T tokens, L positions of a window, Q scored positions, V vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdec import text, visibility
from jaxdec.any_subset import lattice, lattice_ranks, log_prob
from jaxdec.model import Inputs, Model, Params
from jaxdec.training import noised_spans, noising
from jaxdec.training.noising import Noised, Noising
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
    logits = model(params, Inputs.causal(tokens[:, :-1]), None).logits
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
        query_spans=join(content.query_spans, query.query_spans),
        key_spans=join(content.key_spans, query.key_spans),
    )
    logits = model(params, inputs, None).logits[:, tokens.shape[1] :]
    truth = jnp.take_along_axis(tokens, batch.scored, axis=1)
    return Predictions(logits, truth, jnp.asarray(batch.weights))


def masked_diffusion(
    model: Model, params: Params, batch: Noised, *, mask_token: int = text.MASK
) -> Predictions:
    """Masked tokens of a canvas that sees itself whole, each window used twice with complementary masks.

        p(x_i | visible tokens),   masked i

    Args:
      model: a transformer of the contract.
      params: its parameters.
      batch: windows `[B, L]` with masked sets; of several canvases each sees itself alone.
      mask_token: what stands at masked positions.

    Returns:
      Predictions `[B, 2L, V]` that weigh masked tokens by 1 and others by 0.

    Source: 2406.07524, without its weight 1/t; complementary masks as in 2509.26328.
    """
    places, spans = noised_spans.places(batch), noised_spans.whole(batch)
    logits = [
        model(params, Inputs(noised, places, *spans), None).logits
        for noised in _noised(batch, mask_token)
    ]
    return _restored(jnp.concatenate(logits, axis=1), batch)


def block_diffusion(
    model: Model, params: Params, batch: Noised, *, mask_token: int = text.MASK
) -> Predictions:
    """Masked tokens of blocks, each given its own block and the clean blocks before it.

        p(x_i | visible tokens of block b, clean blocks < b),   masked i of block b

    All blocks, and both complementary masks of each, are scored in one forward over `[clean; noised; noised]`: clean
    blocks see one another up to their own, noised ones see themselves and the clean blocks before them.

    Args:
      model: a transformer of the contract.
      params: its parameters.
      batch: windows `[B, L]` with masked sets and block sizes; of several canvases each sees itself alone, and has
        blocks counted from its start.
      mask_token: what stands at masked positions.

    Returns:
      Predictions `[B, 2L, V]` that weigh masked tokens by 1 and others by 0.

    Raises:
      ValueError: for several canvases in a window and a shifted model.

    Source: 2503.09573, without its weight 1/t; complementary masks as in 2509.26328.
    """
    if batch.canvases is not None and model.reads_before:
        raise ValueError("a shifted model learns windows of one canvas, got several in one")
    length, places = batch.tokens.shape[1], noised_spans.places(batch)
    blocks, clean = noised_spans.clean_blocks(batch)
    numbers = jnp.concatenate([blocks - 1, blocks - 2], axis=1)
    own = jnp.stack([numbers, numbers], axis=-1)
    join = lambda *parts: jnp.concatenate(parts, axis=1)
    inputs = Inputs(
        tokens=join(jnp.asarray(batch.tokens), *_noised(batch, mask_token)),
        positions=jnp.tile(places, (1, 3)),
        query_spans=join(clean.query_spans, own),
        key_spans=join(clean.key_spans, own),
        before=_before(places, batch) if model.reads_before else None,
    )
    return _restored(model(params, inputs, None).logits[:, length:], batch)


def _before(places: jax.Array, batch: Noised) -> jax.Array:
    """`Inputs.before` of `[clean; noised; noised]`: before the first position of a block stands the clean block."""
    length, at = places.shape[1], jnp.maximum(places - 1, 0)
    outside = (places > 0) & (places % batch.blocks == 0)
    noised = [jnp.where(outside, at, at + copy * length) for copy in (1, 2)]
    return jnp.concatenate([at, *noised], axis=1).astype(jnp.int32)


def _noised(batch: Noised, mask_token: int) -> list[jax.Array]:
    """The two uses of each window."""
    tokens = jnp.asarray(batch.tokens)
    return [jnp.where(masked, mask_token, tokens) for masked in (batch.first, batch.second)]


def _restored(logits: jax.Array, batch: Noised) -> Predictions:
    weights = jnp.concatenate([batch.first, batch.second], axis=1).astype(jnp.float32)
    return Predictions(logits, jnp.tile(jnp.asarray(batch.tokens), (1, 2)), weights)


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
        labels = jax.nn.one_hot(tokens, logits.shape[-1], dtype=logits.dtype)
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
        logits = model(params, Inputs.causal(tokens[:, :-1]), None).logits
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


def diffusion_bound(
    model: Model,
    params: Params,
    stream,
    *,
    length: int = 512,
    block: int | None = None,
    windows: int = 256,
    batch: int = 8,
) -> float:
    """Upper bound on the bits per byte of held-out windows under a diffusion model.

        -log p(x) <= E_t [ 1/t sum over masked i of -log p(x_i | the rest) ],   t uniform in (0, 1)

    estimated with one rate a window or block, stratified, and its complement.

    Args:
      model: a transformer of the contract.
      params: its parameters.
      stream: integer array `[n]`.
      length: tokens in a window.
      block: size of the blocks; None for a whole canvas.
      windows: how many, spread evenly over the stream; fewer if it is short.
      batch: windows in a forward.

    Raises:
      ValueError: if the stream is shorter than one window.

    Source: 2406.07524.
    """
    stream = np.asarray(stream, np.int32)
    if len(stream) < length:
        raise ValueError(f"a stream of {len(stream)} tokens has no window of {length}")
    count = min(windows, max(len(stream) // length, 1))
    starts = np.linspace(0, len(stream) - length, count).astype(int)
    # Rates near 0 and 1 have large weights and few masks: the interval is cut a little.
    kind = Noising(rates=(0.01, 0.99), prompts=0.0)
    if block is not None:
        kind = dataclasses.replace(kind, blocks=(block,), shares=(1.0,))
    ask = masked_diffusion if block is None else block_diffusion

    @jax.jit
    def nats(params, noised):
        logits, tokens, _ = ask(model, params, noised)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
        masked = jnp.concatenate([noised.first, noised.second], axis=1)
        rates = jnp.concatenate([noised.rates, 1 - noised.rates], axis=1)
        return jnp.where(masked, losses / rates, 0).sum(1) / 2

    total = scored = 0.0
    for group in np.array_split(np.arange(count), -(-count // batch)):
        rows = np.resize(group, batch)  # repeats rows so that every call has one shape
        tokens = stream[starts[rows][:, None] + np.arange(length)]
        noised = noising.mask(tokens, kind, np.random.default_rng((0, int(group[0]))))
        total += float(np.asarray(nats(params, noised), np.float64)[: len(group)].sum())
        scored += int((tokens[: len(group)] < 256).sum())
    return total / np.log(2) / scored
