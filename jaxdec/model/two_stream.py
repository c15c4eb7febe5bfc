"""Two streams of one forward: how a transformer that was trained for it answers queries.

Legend: B rows, T new tokens, Q queries, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.model.contract import Inputs, Model, Output, Params


def without_token(logits: jax.Array, token: int) -> jax.Array:
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
            return self.model(params, inputs, cache)
        asked = queries.positions.shape[1]
        answers = lambda x: x[:, x.shape[1] - asked :]
        join = lambda a, b: jnp.concatenate([a, b], axis=1)
        nobody = jnp.broadcast_to(jnp.asarray(visibility.EMPTY), queries.query_spans.shape)
        output = self.model(
            params,
            Inputs(
                tokens=join(inputs.tokens, jnp.full_like(queries.positions, self.mask_token)),
                positions=join(inputs.positions, queries.positions),
                query_spans=join(inputs.query_spans, queries.query_spans),
                key_spans=join(inputs.key_spans, nobody),
                queries=queries,
            ),
            cache,
        )
        # Entries of queries may stay in the output; nobody commits them. A network that knows its queries answers
        # those alone.
        return dataclasses.replace(
            output,
            logits=without_token(answers(output.logits), self.mask_token),
            hidden=answers(output.hidden),
            layer_states=tuple(map(answers, output.layer_states)),
        )


@typed
def two_stream(model: Model, mask_token: int) -> Model:
    """An any-subset model from a transformer that was trained as one: content rows and query rows of one forward.

    Content of rank r sees ranks up to r and is final once committed, so that its cache entry is exact; a query row
    holds the mask token at the position in question. The network is given the queries too (`Inputs.queries`, the last
    rows of its inputs), for those that have another input for them, as XLNet does.

    Args:
      model: a network trained with `training.objectives.any_subset`. A network does not say how it was trained: any
        other masked language model would be accepted, and give laws of its own making, since its content was never
        trained to be read without the masks. `masked_rows` is for those.
      mask_token: what its queries hold; never emitted.

    Raises:
      ValueError: if the mask token is not in the vocabulary, or the model is one that says otherwise: of a canvas, or
        one that answers queries already.

    Source: two-stream attention as in 2504.20456, here as rows of an ordinary transformer.
    """
    check_mask(model, mask_token)
    if model.canvas:
        raise ValueError(
            "the model fills a canvas and was not trained in two streams; use masked_rows, one row a query"
        )
    if model.any_subset:
        raise ValueError("the model answers queries already: two_stream takes the network itself")
    return dataclasses.replace(
        model, forward=_TwoStream(model, mask_token), any_subset=True, causal=False
    )


def check_mask(model: Model, mask_token: int) -> None:
    """Raises `ValueError` for a mask token outside the vocabulary."""
    if not 0 <= mask_token < model.vocab_size:
        raise ValueError(f"mask_token {mask_token} is outside the vocabulary of {model.vocab_size}")
