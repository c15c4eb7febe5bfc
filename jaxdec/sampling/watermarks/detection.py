"""Whether a text was written with a secret: a permutation test that needs no model.

Legend: B texts, L tokens of the longest, n rows of the key, V vocabulary, T random secrets.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.sampling.limits import as_array, is_traced, shown
from jaxdec.sampling.noise import row_keys
from jaxdec.sampling.watermarks.alignment import aligned, edited
from jaxdec.sampling.watermarks.contract import LONGEST, KeySequence, secret_keys

_AT_ONCE = 1 << 24
"""Numbers of the random secrets that are looked at together, at most: about 64 MiB."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Detection:
    """What `detect` found of each text.

    Attributes:
      statistic: float32 `[B]`, the cost of the best alignment; low for a text that carries the watermark.
      p_value: float32 `[B]`, the chance of a statistic as low for a text that knows nothing of the secret.
    """

    statistic: jax.Array
    p_value: jax.Array


def detect(
    watermark: KeySequence,
    tokens: Any,
    *,
    vocab_size: int,
    rng: jax.Array | int,
    lengths: Any = None,
    nulls: int = 999,
    block: int | None = None,
    gap: float | None = None,
) -> Detection:
    """Compares a text with the rows of a key, and with those of T random keys.

        p = (1 + #{ t : phi_t <= phi }) / (T + 1)

    phi is the least cost of a block of the text on the key, `aligned` or, with a gap cost, `edited`; phi_1, ..., phi_T
    are the same for random secrets. Which text it is does not matter, as long as it was written without the secret:
    over secrets, the p-value of such a text is never too small,

        P(p <= a) <= a   for every a.

    Several texts that are compared with one secret are no independent tests.

    The place of the text on the key is not needed, nor is the model: all n shifts are tried.

    Args:
      watermark: `Exponential` or `InverseTransform`, with one secret and one length; the rest of its settings as the
        text was written with.
      tokens: int `[B, L]`, the generated texts, right-padded, or one `[L]`, which gives arrays of one. A part of a
        text, or one in which tokens were replaced, is found as well; after insertions and deletions, give a gap.
      vocab_size: V, of the model that the texts may come from.
      rng: a key or seed for the random secrets, one or one a text.
      lengths: int `[B]`, the tokens of each text; all L if not given.
      nulls: T, at least 1; the least p-value is `1 / (T + 1)`.
      block: K, tokens of a block; the whole text if not given or longer than it. Smaller ones find what was written
        with the secret within a foreign text.
      gap: cost of a token that was inserted or deleted, such as `watermark.gap`; None for none of these, which is
        cheaper by a factor of K.

    Raises:
      ValueError: naming the value and the limit.

    Exactness: p-values hold exactly, whatever the law of the text.
    Source: Kuditipudi et al., 2307.15593. Costs under random secrets are drawn of the text's own tokens alone.
    """
    if not isinstance(watermark, KeySequence):
        raise ValueError(
            f"detect reads Exponential or InverseTransform, got {type(watermark).__name__}; count_green reads a "
            "GreenList"
        )
    own = watermark.validated(1, _size("vocab_size", vocab_size, 1))
    if is_traced(own.length):
        raise ValueError("watermark length: is traced, must be an integer to look for its rows")
    tokens, lengths = checked_texts(tokens, lengths, vocab_size)
    width = tokens.shape[1]
    block = width if block is None else min(_size("block", block, 1), width)
    nulls = _size("nulls", nulls, 1)
    if gap is not None and (isinstance(gap, bool) or not np.isfinite(np.asarray(gap, float))):
        raise ValueError(f"gap: got {shown(gap)}, must be finite, or None")
    statistic, p_value = _detect(
        type(watermark),
        (int(own.length[0]), vocab_size, nulls, block, gap is not None),
        own.secret,
        tokens,
        lengths,
        row_keys(rng, len(tokens)),
        np.float32(0 if gap is None else gap),
    )
    return Detection(statistic, p_value)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _detect(kind, sizes, secret, tokens, lengths, keys, gap):
    length, vocab_size, nulls, block, edits = sizes
    width = tokens.shape[1]
    cell = length * (block if edits else width)
    together = max(1, min(nulls, _AT_ONCE // max(cell, vocab_size)))

    def one(text):
        tokens, size, key = text

        def statistic(costs):
            if edits:
                return edited(costs, size, block, gap)
            return aligned(costs, size, block)

        def null(t):
            random = jax.random.fold_in(key, t)
            return statistic(kind.random_costs(random, tokens, first, length, vocab_size))

        first = jnp.argmax(tokens[:, None] == tokens[None, :], axis=1).astype(jnp.int32)
        found = statistic(kind.costs(secret_keys(secret)[0], tokens, length, vocab_size))
        draws = jnp.arange(nulls, dtype=jnp.int32)
        as_low = jax.lax.map(null, draws, batch_size=together) <= found
        return found, (1 + as_low.sum(dtype=jnp.float32)) / (nulls + 1)

    return jax.lax.map(one, (tokens, lengths, keys))


def checked_texts(tokens: Any, lengths: Any, vocab_size: int) -> tuple[Any, Any]:
    """Texts int32 `[B, L]` and their lengths int32 `[B]`.

    Raises:
      ValueError: naming the value and the limit.
    """
    tokens = as_array("tokens", tokens, "integers [B, L], in rows of equal length")
    tokens = tokens[None] if tokens.ndim == 1 else tokens
    if tokens.ndim != 2 or not tokens.shape[1]:
        raise ValueError(f"tokens: got shape {tokens.shape}, must be [B, L] with L at least 1")
    batch, width = tokens.shape
    lengths = as_array("lengths", np.full(batch, width) if lengths is None else lengths, "integers")
    for name, values in (("tokens", tokens), ("lengths", lengths)):
        if not jnp.issubdtype(values.dtype, jnp.integer):
            raise ValueError(f"{name}: got type {values.dtype}, must hold integers")
    if lengths.shape != (batch,):
        raise ValueError(f"lengths: got shape {lengths.shape}, must be ({batch},)")
    if not is_traced(lengths) and ((lengths < 0) | (lengths > width)).any():
        raise ValueError(f"lengths: got {shown(lengths.tolist())}, must lie in [0, {width}]")
    if not is_traced((tokens, lengths)):
        bad = (np.arange(width) < lengths[:, None]) & ((tokens < 0) | (tokens >= vocab_size))
        if bad.any():
            raise ValueError(
                f"tokens: got {tokens[bad][0]}, must lie in [0, {vocab_size}), the vocabulary"
            )
    legal = (jnp if is_traced(tokens) else np).clip(tokens, 0, vocab_size - 1)
    return legal.astype(np.int32), lengths.astype(np.int32)


def _size(name: str, value: Any, low: int) -> int:
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or not low <= value <= LONGEST:
        raise ValueError(f"{name}: got {shown(value)}, must be an integer in [{low}, {LONGEST}]")
    return int(value)
