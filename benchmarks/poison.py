"""A token that makes a model's laws NaN, and its cache too: what a damaged request does to those beside it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.cache import Cache
from jaxdec.model import Inputs, Model, Output
from pallas_kernels.span_attention import whole


@dataclasses.dataclass(frozen=True)
class _Poisoned:
    """A forward in which whoever sees the token, new or cached, gets a law of NaN, and the token's entries are NaN."""

    forward: Callable[..., Output]
    token: int

    def __call__(self, params: Any, inputs: Inputs, cache: Cache | None = None) -> Output:
        output = self.forward(params, inputs, cache)
        bad = inputs.tokens == self.token
        seen = visibility.dense(inputs.query_spans, inputs.key_spans)
        struck = bad | (seen & bad[:, None]).any(-1)
        if cache is not None:
            held = whole(cache.read(0))
            stored = jnp.isnan(held.keys).any((1, 3))
            seen = visibility.dense(inputs.query_spans, held.key_spans)
            struck |= (seen & stored[:, None]).any(-1)
        spoil = lambda x: jnp.where(bad[:, None, :, None], jnp.nan, x).astype(x.dtype)
        entries = output.entries
        entries = dataclasses.replace(entries, layers=jax.tree.map(spoil, entries.layers))
        struck = struck[..., None]
        if output.logits.shape[1] != struck.shape[1]:  # the model gives those that are wanted alone
            struck = inputs.wanted(struck)
        logits = jnp.where(struck, jnp.nan, output.logits)
        return dataclasses.replace(output, logits=logits, entries=entries)


def poisoned(model: Model, token: int) -> Model:
    """The model with a token that spoils everything that sees it; for models with a cache of keys and values."""
    return dataclasses.replace(model, forward=_Poisoned(model.forward, token))
