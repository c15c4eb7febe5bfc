"""Training objectives: functions of (params, batch) that return a mean loss in nats a token.

Legend: B rows, T tokens, V vocabulary.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdec.model import Inputs, Model, Params


def causal(model: Model, params: Params, tokens: jax.Array) -> jax.Array:
    """Next-token cross-entropy, `-mean_t log p(x_{t+1} | x_{<=t})`.

    Args:
      model: scores the first T tokens with causal spans.
      params: its parameters.
      tokens: int32 `[B, T + 1]`.

    Returns:
      A float32 scalar in nats.
    """
    logits = model.forward(params, Inputs.causal(tokens[:, :-1]), None).logits
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


def distillation(
    model: Model,
    params: Params,
    teacher: Model,
    teacher_params: Params,
    tokens: jax.Array,
    weight: float,
) -> jax.Array:
    """Cross-entropy against a mix of the data and a teacher's law.

        (1 - weight) * CE(data) + weight * CE(teacher),  CE(teacher) = -mean_t sum_v p_T(v) log p(v)

    The acceptance of a draft is one minus the total variation between the two laws, so a drafter learns from the
    target that it will draft for rather than from the data alone.

    Args:
      model: the student.
      params: its parameters.
      teacher: the target model; same vocabulary.
      teacher_params: its parameters, not trained.
      tokens: int32 `[B, T + 1]`.
      weight: in [0, 1].

    Returns:
      A float32 scalar in nats.
    """
    inputs = Inputs.causal(tokens[:, :-1])
    law = jax.nn.softmax(
        jax.lax.stop_gradient(teacher.forward(teacher_params, inputs, None).logits)
    )
    labels = jax.nn.one_hot(tokens[:, 1:], model.vocab_size)
    logits = model.forward(params, inputs, None).logits
    return optax.softmax_cross_entropy(logits, (1 - weight) * labels + weight * law).mean()


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
