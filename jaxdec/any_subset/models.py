"""Two ways in which a network answers queries: two streams of one forward, or one batch row a query.

Legend: B rows, T new tokens, Q queries, S cached slots, L positions, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.cache import KVCache, KVEntries, LayerEntries
from jaxdec.model import Inputs, Model, Output, Params


def _without(logits: jax.Array, token: int) -> jax.Array:
    """Logits of real tokens only: masked before any softmax, so that laws stay normalised."""
    return jnp.where(jnp.arange(logits.shape[-1]) == token, -jnp.inf, logits)


@dataclasses.dataclass(frozen=True)
class _TwoStream:
    """Appends a mask token for each query, which sees what the query may see and is seen by nobody."""

    model: Model
    mask_token: int

    def __call__(self, params: Params, inputs: Inputs, cache: Any = None) -> Output:
        queries = inputs.queries
        if queries is None:
            return self.model.forward(params, inputs, cache)
        width = inputs.tokens.shape[1]
        join = lambda a, b: jnp.concatenate([a, b], axis=1)
        nobody = jnp.broadcast_to(jnp.asarray(visibility.EMPTY), queries.looks.shape)
        output = self.model.forward(
            params,
            Inputs(
                tokens=join(inputs.tokens, jnp.full_like(queries.positions, self.mask_token)),
                positions=join(inputs.positions, queries.positions),
                looks=join(inputs.looks, queries.looks),
                lives=join(inputs.lives, nobody),
            ),
            cache,
        )
        # Entries of queries stay in the output; nobody commits them.
        return dataclasses.replace(
            output,
            logits=_without(output.logits[:, width:], self.mask_token),
            hidden=output.hidden[:, width:],
            taps=tuple(tap[:, width:] for tap in output.taps),
        )


def two_stream(model: Model, mask_token: int) -> Model:
    """An any-subset model from a transformer that was trained as one: content rows and query rows of one forward.

    Content of rank r sees ranks up to r and is final once committed, so that its cache entry is exact; a query row
    holds the mask token at the position in question.

    Args:
      model: a network trained with `training.objectives.any_subset`.
      mask_token: what its queries hold; never emitted.

    Raises:
      ValueError: if the mask token is not in the vocabulary.

    Source: two-stream attention as in 2504.20456, here as rows of an ordinary transformer.
    """
    _check_mask(model, mask_token)
    return dataclasses.replace(
        model, forward=_TwoStream(model, mask_token), any_subset=True, causal=False
    )


@dataclasses.dataclass(frozen=True)
class _TokenCache:
    """An `init_cache` for models that keep committed tokens alone, as the keys of one layer of width 1."""

    def __call__(self, batch: int, capacity: int) -> KVCache:
        return KVCache.create(layers=1, batch=batch, capacity=capacity, heads=1, head_dim=1)


def _token_entries(inputs: Inputs) -> KVEntries:
    """Tokens as keys, and where they look from as values."""
    column = lambda x: x[:, None, :, None].astype(jnp.float32)
    return KVEntries(
        (LayerEntries(column(inputs.tokens), column(inputs.looks[..., 0])),), inputs.positions
    )


def _with_cached(inputs: Inputs, cache: KVCache | None) -> Inputs:
    """New and cached tokens as one row of inputs, without queries."""
    if cache is None:
        return dataclasses.replace(inputs, queries=None)
    held = lambda x: x[:, 0, :, 0].astype(jnp.int32)
    tokens, looks = held(cache.layers[0].keys), held(cache.layers[0].values)
    join = lambda new, old: jnp.concatenate([new, old], axis=1)
    return Inputs(
        tokens=join(inputs.tokens, tokens),
        positions=join(inputs.positions, cache.positions),
        looks=join(inputs.looks, jnp.stack([looks, looks], axis=-1)),
        lives=join(inputs.lives, cache.spans),
    )


@dataclasses.dataclass(frozen=True)
class _Recomputed:
    """Scores all committed tokens again in every forward."""

    model: Model

    def __call__(self, params: Params, inputs: Inputs, cache: KVCache | None = None) -> Output:
        everything = dataclasses.replace(_with_cached(inputs, cache), queries=inputs.queries)
        output = self.model.forward(params, everything, None)
        return dataclasses.replace(output, entries=_token_entries(inputs))


def recomputed(model: Model) -> Model:
    """The same any-subset model without its cache: every forward scores every token again.

    What implementations without a rank-order cache do. For tests, and to measure what the cache is worth.

    Args:
      model: from `two_stream`.
    """
    return dataclasses.replace(model, forward=_Recomputed(model), init_cache=_TokenCache())


@dataclasses.dataclass(frozen=True)
class _MaskedRows:
    """Answers each query with a batch row of its own: what the query sees, and masks elsewhere."""

    model: Model
    mask_token: int

    def __call__(self, params: Params, inputs: Inputs, cache: KVCache | None = None) -> Output:
        batch, width = inputs.tokens.shape
        entries, queries = _token_entries(inputs), inputs.queries
        if queries is None:
            nothing = jnp.zeros((batch, width, self.model.vocab_size))
            return Output(nothing, nothing, (), entries)
        length = width if cache is None else cache.capacity
        known = _with_cached(inputs, cache)
        visible = visibility.dense(queries.looks, known.lives)

        def canvas(tokens, positions, visible):  # of one query
            at = jnp.where(visible, positions, length)
            return jnp.full((length,), self.mask_token).at[at].set(tokens, mode="drop")

        of_row = jax.vmap(canvas, in_axes=(None, None, 0))
        rows = jax.vmap(of_row)(known.tokens, known.positions, visible).reshape(-1, length)
        places = jnp.broadcast_to(jnp.arange(length), rows.shape)
        exists = places < jnp.repeat(queries.size, queries.positions.shape[1])[:, None]
        spans = visibility.full(places).where(exists)
        output = self.model.forward(params, Inputs(rows, places, *spans), None)
        at = queries.positions.reshape(-1, 1, 1)
        answer = lambda x: jnp.take_along_axis(x, at, axis=1).reshape(batch, -1, x.shape[-1])
        logits = _without(answer(output.logits), self.mask_token)
        return Output(logits, answer(output.hidden), (), entries)


def masked_rows(model: Model, mask_token: int) -> Model:
    """An any-subset model from a plain bidirectional masked language model: one batch row a query.

    The law of a query is the masked model's at its position, with all that the query sees in place and masks elsewhere.
    Nothing can be cached but the tokens: one forward costs as many whole sequences as it has queries.

    Args:
      model: scores a whole canvas, all positions seeing one another.
      mask_token: what stands at unknown positions; never emitted.

    Raises:
      ValueError: if the mask token is not in the vocabulary.
    """
    _check_mask(model, mask_token)
    return dataclasses.replace(
        model,
        forward=_MaskedRows(model, mask_token),
        init_cache=_TokenCache(),
        any_subset=True,
        causal=False,
    )


def _check_mask(model: Model, mask_token: int) -> None:
    if not 0 <= mask_token < model.vocab_size:
        raise ValueError(f"mask_token {mask_token} is outside the vocabulary of {model.vocab_size}")
