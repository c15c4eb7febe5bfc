"""One batch row a query: how a plain masked language model answers queries.

Legend: B rows, T new tokens, Q queries, S cached slots, L positions, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.cache import Cache, KVCache, KVEntries, LayerEntries
from jaxdec.model.contract import Inputs, Model, Output, Params
from jaxdec.model.two_stream import check_mask, without_token
from pallas_kernels.span_attention import whole


@dataclasses.dataclass(frozen=True)
class TokenCache:
    """An `init_cache` for models that keep committed tokens alone, as the keys of one layer of width 1."""

    def __call__(self, batch: int, capacity: int) -> KVCache:
        """An empty cache."""
        return KVCache.create(layers=1, batch=batch, capacity=capacity, heads=1, head_dim=1)


def token_entries(inputs: Inputs) -> KVEntries:
    """Tokens as keys, and the rank that they see from as values."""
    column = lambda x: x[:, None, :, None].astype(jnp.float32)
    return KVEntries(
        (LayerEntries(column(inputs.tokens), column(inputs.query_spans[..., 0])),), inputs.positions
    )


def with_cached(inputs: Inputs, cache: Cache | None) -> Inputs:
    """New and cached tokens as one row of inputs, without queries."""
    if cache is None:
        return dataclasses.replace(inputs, queries=None)
    held = whole(cache.read(0))
    number = lambda x: jnp.round(x[:, 0, :, 0]).astype(jnp.int32)
    tokens, query_spans = number(held.keys), number(held.values)
    join = lambda new, old: jnp.concatenate([new, old], axis=1)
    return Inputs(
        tokens=join(inputs.tokens, tokens),
        positions=join(inputs.positions, held.positions),
        query_spans=join(inputs.query_spans, jnp.stack([query_spans, query_spans], axis=-1)),
        key_spans=join(inputs.key_spans, held.key_spans),
    )


def rows_seen(
    inputs: Inputs, cache: Cache | None, query_spans: jax.Array, length: int, fill: int
) -> jax.Array:
    """A row of tokens `[B Q, L]` for each query: what it sees, by position, and `fill` elsewhere.

    Args:
      inputs: new tokens.
      cache: of a `TokenCache`, or None.
      query_spans: int32 `[B, Q, 2]`.
      length: L.
      fill: what stands where nothing is seen.
    """
    known = with_cached(inputs, cache)
    visible = visibility.dense(query_spans, known.key_spans)

    def row(tokens, positions, visible):  # of one query
        at = jnp.where(visible, positions, length)
        return jnp.full((length,), fill, jnp.int32).at[at].set(tokens, mode="drop")

    of_batch = jax.vmap(jax.vmap(row, in_axes=(None, None, 0)))
    return of_batch(known.tokens, known.positions, visible).reshape(-1, length)


@dataclasses.dataclass(frozen=True)
class _MaskedRows:
    """Answers each query with a batch row of its own: what the query sees, and masks elsewhere."""

    model: Model
    mask_token: int

    def __call__(self, params: Params, inputs: Inputs, cache: Cache | None = None) -> Output:
        batch, width = inputs.tokens.shape
        entries, queries = token_entries(inputs), inputs.queries
        if queries is None:
            nothing = jnp.zeros((batch, width, self.model.vocab_size), jnp.float32)
            return Output(nothing, nothing, (), entries)
        length = queries.longest
        if length is None:
            length = width if cache is None else cache.capacity
        rows = rows_seen(inputs, cache, queries.query_spans, length, self.mask_token)
        places = jnp.broadcast_to(jnp.arange(length), rows.shape)
        exists = places < jnp.repeat(queries.size, queries.positions.shape[1])[:, None]
        spans = visibility.full(places).where(exists)
        at = queries.positions.reshape(-1, 1)
        output = self.model(params, Inputs(rows, places, *spans, at=at), None)
        answer = lambda x: x.reshape(batch, -1, x.shape[-1])
        logits = without_token(answer(output.logits), self.mask_token)
        return Output(logits, answer(output.hidden), (), entries)


@typed
def masked_rows(model: Model, mask_token: int) -> Model:
    """An any-subset model from a plain bidirectional masked language model: one batch row a query.

    The law of a query is the masked model's at its position, with all that the query sees in place and masks elsewhere.
    Nothing can be cached but the tokens: one forward costs as many whole sequences as it has queries, each padded to
    `Queries.longest` positions.

    Args:
      model: scores a whole canvas, all positions seeing one another.
      mask_token: what stands at unknown positions; never emitted.

    Raises:
      ValueError: if the mask token is not in the vocabulary, or the model answers queries already.
    """
    check_mask(model, mask_token)
    if model.any_subset:
        raise ValueError("the model answers queries already: masked_rows takes the network itself")
    return dataclasses.replace(
        model,
        forward=_MaskedRows(model, mask_token),
        init_cache=TokenCache(),
        any_subset=True,
        causal=False,
        whole_rows=True,
        picks=False,
        mixes=False,
    )
