"""Prompts are read into a fresh cache.

Legend: B rows, P prompt width.
"""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.cache import Cache
from jaxdec.decoding.moving import by_row
from jaxdec.decoding.request import Request
from jaxdec.model import Model, Output, Params, prompt_inputs
from jaxdec.parallel import SEQUENCE, SplitCaches, read_shares

Tree = TypeVar("Tree")


def prefill(model: Model, params: Params, request: Request) -> Any:
    """Reads prompts into a fresh cache; the last token of each prompt stays pending.

    Returns:
      A cache of `request.capacity` slots whose rows hold `lengths - 1` tokens.
    """
    return read_prompts(model, params, request)[0]


def read_prompts(model: Model, params: Params, request: Request) -> tuple[Any, Output]:
    """As `prefill`, and the output over the prompts `[B, P]`, for those who draft from it.

    A prompt is read once, whatever the number of its hypotheses; the output's entries are of the prompts alone,
    and where slots are split over devices, of each device's share of them.
    """
    cache, output = _read(model, params, by_prompt(request, request.hypotheses))
    seen = output.logits, output.hidden, output.layer_states
    logits, hidden, layer_states = spread(seen, request.hypotheses)
    return spread(cache, request.hypotheses), dataclasses.replace(
        output, logits=logits, hidden=hidden, layer_states=layer_states
    )


def by_prompt(tree: Any, hypotheses: int) -> Any:
    """The first row of each prompt: of a request, or of arrays `[B, ...]`."""
    if hypotheses == 1:
        return tree
    first = by_row(tree, lambda x: x[::hypotheses], lambda stops: stops)
    return dataclasses.replace(first, hypotheses=1) if isinstance(first, Request) else first


def spread(tree: Tree, hypotheses: int) -> Tree:
    """What was found of each prompt, caches and arrays `[B / H, ...]`, in each of its rows."""
    if hypotheses == 1:
        return tree

    def to_rows(node):
        if isinstance(node, Cache):
            prompts = node.length.shape[0]
            return node.rows(jnp.repeat(jnp.arange(prompts, dtype=jnp.int32), hypotheses))
        return jnp.repeat(node, hypotheses, axis=0)

    return jax.tree.map(to_rows, tree, is_leaf=lambda node: isinstance(node, Cache))


def _read(model: Model, params: Params, request: Request) -> tuple[Any, Output]:
    batch, width = request.prompt.shape
    order = request.order
    inputs = prompt_inputs(request.prompt, request.lengths, order)
    if order is not None:
        inputs = dataclasses.replace(inputs, positions=order.at(inputs.positions))
    index = jnp.broadcast_to(jnp.arange(width), (batch, width))
    cache, count = request.new_cache(model), request.lengths - 1
    key_spans = visibility.causal(index).key_spans
    if isinstance(request.cache, SplitCaches):
        form = request.cache.prompts
        shared = read_shares(model, params, inputs, cache, count, key_spans, SEQUENCE, form)
        if shared is not None:
            return shared
    output = model(params, inputs, None)
    return cache.commit(output.entries, index, count, key_spans), output
