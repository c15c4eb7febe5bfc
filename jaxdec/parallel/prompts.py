"""Prompts read in shares: each device along a mesh axis reads the tokens that it will hold.

Tokens go in turns, as the slots of a `SequenceCache` do, so that causal attention is as much work on every device and
entries are committed where they were computed. For a `RecurrentCache` each device has consecutive tokens.

Legend: B rows, P prompt width, n devices.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.cache import RecurrentCache, SequenceCache
from jaxdec.model import Inputs, Model, Output, Params
from pallas_kernels.span_attention import Form, devices_along, in_turns, own_turns, tokens_split


def read_shares(
    model: Model,
    params: Params,
    inputs: Inputs,
    cache: SequenceCache | RecurrentCache,
    count: jax.Array,
    key_spans: jax.Array,
    axis: str,
    form: Form = "ring",
) -> tuple[Any, Output] | None:
    """Reads prompts into an empty cache, each device its share of their tokens.

    Inside a `jax.shard_map` that is manual over the axis. What the output holds of all tokens is gathered, and so costs
    nothing where it is not read.

    Args:
      model: any that mixes tokens by `span_attention` and `continue_states` alone, or asks `sharing`.
      params: of the model.
      inputs: the prompts, `[B, P]`, whole on each device.
      cache: empty.
      count: int32 `[B]`, tokens of each row that are committed, the first ones.
      key_spans: int32 `[B, P, 2]`, spans that they live over from now on.
      axis: name of the mesh axis.
      form: of attention, see `pallas_kernels.span_attention.tokens_split`; states of recurrences are gathered, or go
        along a chain.

    Returns:
      The cache, and the output over all prompts, `[B, P, ...]`, but for the entries, which are those of the share. None
      if the model knows nothing of shares, or reads the row before each (`Model.reads_before`): it reads prompts whole.

    Exactness: as reading them whole, up to float32 rounding.
    """
    if model.reads_before or inputs.queries is not None or inputs.before is not None:
        return None
    width, devices = inputs.positions.shape[1], devices_along(axis)
    turn = cache.turn if isinstance(cache, SequenceCache) else -(-width // devices)
    padded = -(-width // (devices * turn)) * devices * turn

    def share(x: jax.Array, fill: Any = 0) -> jax.Array:
        shape = (x.shape[0], padded - width, *x.shape[2:])
        x = jnp.concatenate([x, jnp.broadcast_to(jnp.asarray(fill, x.dtype), shape)], axis=1)
        return own_turns(x, axis, turn)

    mine = dataclasses.replace(
        inputs,
        tokens=share(inputs.tokens),
        positions=share(inputs.positions),
        query_spans=share(inputs.query_spans, visibility.EMPTY[::-1]),
        key_spans=share(inputs.key_spans, visibility.EMPTY),
        features=None if inputs.features is None else share(inputs.features),
    )
    with tokens_split(axis, form) as asks:
        output = model(params, mine, None)
    if not asks.count:
        return None
    entries: Any = output.entries
    if isinstance(cache, SequenceCache):
        cache = cache.commit_share(entries, count, share(key_spans, visibility.EMPTY))
    else:
        cache = cache.commit_share(entries, count, axis)
    seen = output.logits, output.hidden, output.layer_states
    logits, hidden, states = jax.tree.map(lambda x: in_turns(x, axis, turn)[:, :width], seen)
    return cache, dataclasses.replace(output, logits=logits, hidden=hidden, layer_states=states)
