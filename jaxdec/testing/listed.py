"""A perfect model of a list: it knows sequences that are equally likely, and the exact law of what is hidden of them.

    p(x_i = v | what is seen) = |{sequences that agree with it and have v at i}| / |{sequences that agree with it}|

Everything that is lost by decoding it in parallel is lost by the decoder.

Legend: B rows, T questions, K tokens that may be seen, M sequences of L tokens, U different tokens in them.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.cache import Cache
from jaxdec.model import Inputs, Model, Output
from jaxdec.testing import oracles

HIGH = 30.0
"""The logit of a certain token, and minus it that of an impossible one."""


def _forward(params: Any, inputs: Inputs, cache: Cache | None = None) -> Output:
    sequences, symbols, size = params["sequences"], params["symbols"], params["vocabulary"].shape[0]
    tokens, positions, visible = oracles.seen(inputs, cache)
    length = sequences.shape[1]
    held = sequences.T[jnp.minimum(positions, length - 1)]  # [B, K, M]
    against = (held != tokens[..., None]) & (positions < length)[..., None]
    against = jnp.einsum("btk,bkm->btm", visible.astype(jnp.float32), against.astype(jnp.float32))
    agrees = against == 0
    wanted = oracles.wanted(inputs)
    said = sequences.T[jnp.minimum(wanted, length - 1)]  # [B, T, M]
    counts = jnp.stack(
        [(agrees & (said == symbols[u])).sum(-1) for u in range(symbols.shape[0])], axis=-1
    )
    some = counts.sum(-1, keepdims=True)
    law = jnp.where(some > 0, counts / jnp.maximum(some, 1), 1 / symbols.shape[0])
    law = jnp.where((wanted < length)[..., None], law, 1 / symbols.shape[0])
    logits = jnp.maximum(jnp.log(law) + HIGH, -HIGH)
    full = jnp.full((*logits.shape[:2], size), -HIGH, jnp.float32)
    return oracles.output(full.at[..., symbols].max(logits.astype(jnp.float32)), inputs)


def listed(
    sequences: Sequence[Sequence[int]], vocab_size: int
) -> tuple[Model, dict[str, jax.Array]]:
    """A model of any subset whose law is uniform over a list; `oracles.canvas` makes it fill canvases.

    Lists of one shape and number of different tokens share programs. What agrees with no sequence, and positions past
    their end, may be any token of the list.

    Args:
      sequences: M of one length L, different; their prompts tell problems apart.
      vocab_size: V.

    Returns:
      `(model, params)`.

    Raises:
      ValueError: for none, two that are equal, different lengths, or tokens outside the vocabulary.
    """
    held = [tuple(map(int, one)) for one in sequences]
    if not held or len({*held}) < len(held) or len({*map(len, held)}) > 1:
        raise ValueError(f"sequences must be some, different and of one length, got {len(held)}")
    table = np.array(held, np.int32)
    if table.size == 0 or table.min() < 0 or table.max() >= vocab_size:
        raise ValueError(f"sequences must hold tokens from 0 to {vocab_size - 1}")
    params = {
        "sequences": jnp.asarray(table),
        "symbols": jnp.asarray(np.unique(table), jnp.int32),
        "vocabulary": jnp.zeros(vocab_size, jnp.float32),
    }
    return oracles.of_any_subset(_forward, vocab_size), params
