"""Prompts are read into a fresh cache.

Legend: B rows, P prompt width.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.decoding.request import Request
from jaxdec.model import Model, Output, Params, prompt_inputs


def prefill(model: Model, params: Params, request: Request) -> Any:
    """Reads prompts into a fresh cache; the last token of each prompt stays pending.

    Returns:
      A cache of `request.capacity` slots whose rows hold `lengths - 1` tokens.
    """
    return read_prompts(model, params, request)[0]


def read_prompts(model: Model, params: Params, request: Request) -> tuple[Any, Output]:
    """As `prefill`, and the output over the prompts `[B, P]`, for those who draft from it."""
    batch, width = request.prompt.shape
    order = request.order
    inputs = prompt_inputs(request.prompt, request.lengths, order)
    if order is not None:
        inputs = dataclasses.replace(inputs, positions=order.at(inputs.positions))
    output = model(params, inputs, None)
    index = jnp.broadcast_to(jnp.arange(width), (batch, width))
    cache = request.new_cache(model)
    key_spans = visibility.causal(index).key_spans
    return cache.commit(output.entries, index, request.lengths - 1, key_spans), output
