"""Orders of generation: the place in the sequence of what is generated first, second, ...

A decoder counts in *ranks*: rank r is the r-th token of the order, its span the causal one of r, whatever its place.
For causal decoding the two are the same. An `Order` sets them apart, and with it any decoder fills any subset of a
sequence given any other: visible tokens have the first ranks, and each scored token comes with a *query* for the
token at the place of the next rank. `score` is the one forward that decoders call.

Legend: B rows, T new tokens, Q queries, L positions, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.cache import Cache
from jaxdec.model.contract import Inputs, Model, Output, Params, Queries


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Order:
    """In which order the positions of each row are generated.

    Attributes:
      places: int32 `[B, L]`, the position of each rank; the prompt's ranks come first.
      visible: int32 `[B]`, ranks of the prompt; the prompt sees itself whole.
      size: int32 `[B]`, positions of the row, prompt and gaps.
      longest: a bound on all sizes, static, for models that score whole rows; None for the buffers' own width.
    """

    places: jax.Array
    visible: jax.Array
    size: jax.Array
    longest: int | None = dataclasses.field(default=None, metadata={"static": True})

    def at(self, ranks: jax.Array) -> jax.Array:
        """Positions `[B, ...]` of ranks `[B, ...]`; a rank past the end gives that of the last."""
        flat = jnp.minimum(ranks, self.size.reshape(-1, *(1,) * (ranks.ndim - 1)) - 1)
        flat = flat.reshape(ranks.shape[0], -1)
        return jnp.take_along_axis(self.places, flat, axis=1, mode="clip").reshape(ranks.shape)

    def ask(self, ranks: jax.Array, query_spans: jax.Array) -> Queries:
        """Queries for the tokens at ranks `[B, Q]`, that see what spans `query_spans [B, Q, 2]` see."""
        return Queries(self.at(ranks), query_spans, self.size, self.longest)


def score(
    model: Model,
    params: Params,
    inputs: Inputs,
    cache: Cache | None,
    order: Order | None,
    *,
    at: jax.Array | None = None,
    more: Queries | None = None,
) -> Output:
    """Scores new tokens given by rank: a forward whose logits are those of the token that follows each.

    Args:
      model: any model for `order=None`, else one that answers queries.
      params: its parameters.
      inputs: T tokens; `positions` hold ranks.
      cache: committed tokens.
      order: of generation; None for causal decoding.
      at: int32 `[B, A]`, the new tokens after which logits are wanted; after each if not given.
      more: further queries, answered after those; only with an order.

    Returns:
      An output with logits `[B, A + Q, V]`, and hidden and layer states to match.
    """
    if order is None:
        return model(params, dataclasses.replace(inputs, at=at), cache)
    ranks, query_spans = inputs.positions, inputs.query_spans
    follows = ranks + 1
    if at is not None:
        follows = jnp.take_along_axis(follows, at, axis=1)
        query_spans = jnp.take_along_axis(query_spans, at[..., None], axis=1)
    queries = order.ask(follows, query_spans)
    if more is not None:
        join = lambda one, two: jnp.concatenate([one, two], axis=1)
        queries = Queries(
            join(queries.positions, more.positions),
            join(queries.query_spans, more.query_spans),
            order.size,
            order.longest,
        )
    inputs = dataclasses.replace(inputs, positions=order.at(ranks), queries=queries)
    return model(params, inputs, cache)


def prompt_inputs(
    tokens: jax.Array,
    lengths: jax.Array,
    order: Order | None,
    *,
    visible: jax.Array | None = None,
) -> Inputs:
    """Tokens `[B, P]` by rank as a model reads them, `lengths [B]` of them in each row.

    The last token of a causal prompt stays pending and is left out. A prompt with an order sees itself whole, its last
    token too; ranks from `visible [B]` on, if there are any, are content that sees the ranks up to its own.
    """
    places = jnp.arange(tokens.shape[1])
    if order is None:
        return Inputs.causal(tokens, valid=places < lengths[:, None] - 1)
    ranks = jnp.broadcast_to(places, tokens.shape).astype(jnp.int32)
    visible = lengths if visible is None else visible
    content, _ = visibility.two_stream(ranks, visible[:, None])
    content = content.where(places < lengths[:, None])
    return Inputs(tokens, ranks, content.query_spans, content.key_spans)
