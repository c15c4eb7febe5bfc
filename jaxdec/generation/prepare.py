"""The arguments of `generate`: checked before anything is traced, and padded to buckets."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.cache import Cache
from jaxdec.decoding import Decoder, Request, Settings, Stops
from jaxdec.model import Order, Params
from jaxdec.sampling import Warp


def bucket(size: int, smallest: int = 32) -> int:
    """The least power of two that is at least `size` and `smallest`."""
    return max(smallest, 1 << max(size - 1, 0).bit_length())


def prepare(
    decoder: Decoder,
    params: Params,
    prompt: jax.Array | np.ndarray,
    *,
    max_new_tokens: int | jax.Array = 128,
    lengths: Any = None,
    eos: Any = None,
    stop: Any = (),
    order: Order | None = None,
    cache: Callable[[Any], Cache] | None = None,
    **knobs: Any,
) -> Request:
    """Checks the arguments of `generate` and pads them to buckets; see there.

    Raises:
      ValueError: naming the value and the limit.
    """
    prompt = np.asarray(prompt)
    if prompt.ndim != 2:
        raise ValueError(f"prompt must have shape [B, P], got {prompt.shape}")
    if not np.issubdtype(prompt.dtype, np.integer):
        raise ValueError(f"prompt must hold integer tokens, got {prompt.dtype}")
    batch, width = prompt.shape
    if batch < 1:
        raise ValueError("prompt has no rows; at least 1 is needed")
    lengths = np.full((batch,), width) if lengths is None else np.asarray(lengths)
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must have shape [{batch}], got {list(lengths.shape)}")
    for row, length in enumerate(lengths):
        if not 1 <= length <= width:
            raise ValueError(f"prompt {row} has {length} tokens; 1 to {width} are allowed")
    vocab_size = decoder.model.vocab_size
    inside = np.arange(width) < lengths[:, None]
    bad = inside & ((prompt < 0) | (prompt >= vocab_size))
    if bad.any():
        row, place = np.argwhere(bad)[0]
        raise ValueError(
            f"prompt token {prompt[row, place]} at row {row}, position {place} is outside the "
            f"vocabulary of {vocab_size}"
        )
    budget = np.broadcast_to(np.asarray(max_new_tokens), (batch,))
    if (budget < 0).any():
        raise ValueError(f"max_new_tokens must be at least 0, got {budget.min()}")
    longest = decoder.model.max_length
    if longest is not None and (lengths + budget).max() > longest:
        row = int(np.argmax(lengths + budget))
        raise ValueError(
            f"prompt {row} has {lengths[row]} tokens and asks for {budget[row]} more; the model's "
            f"capacity is {longest}"
        )
    eos = decoder.model.eos if eos is None else np.asarray(eos).reshape(-1)
    for name, tokens in [("eos", eos), *((f"stop sequence {i}", s) for i, s in enumerate(stop))]:
        for token in np.asarray(tokens).reshape(-1):
            if not 0 <= token < vocab_size:
                raise ValueError(f"{name} holds {token}, outside the vocabulary of {vocab_size}")
    fills_canvas = getattr(decoder, "fills_canvas", False)
    if decoder.model.canvas and not fills_canvas:
        raise ValueError(
            "the model fills a canvas and predicts no next token; decode it with jaxdec.denoise, or make a causal "
            "model of it with diffusion.next_token"
        )
    if order is not None and not decoder.model.any_subset and not fills_canvas:
        raise ValueError(
            "the model is causal and cannot fill an order of the request; wrap one that was trained for it with "
            "any_subset.two_stream or any_subset.masked_rows"
        )
    if order is None and not decoder.model.causal and not fills_canvas:
        raise ValueError("the model fills gaps and predicts no next token; use jaxdec.infill")
    padded = bucket(width)
    # The slack lets a step write its whole chunk at the last committed token.
    capacity = padded + bucket(int(budget.max())) + bucket(decoder.width, 8)
    if order is not None:
        missing = ((0, 0), (0, max(capacity - order.places.shape[1], 0)))
        order = dataclasses.replace(order, places=jnp.pad(order.places, missing)[:, :capacity])
    own = {
        name: knob.checked(name, knobs.pop(name, None), batch)
        for name, knob in getattr(decoder, "knobs", {}).items()
    }
    settings = Settings(
        warp=Warp(**knobs).validate(batch, vocab_size),
        max_new_tokens=jnp.asarray(budget, jnp.int32),
        stops=Stops.create(eos, stop),
        knobs=own,
    )
    request = Request(
        prompt=jnp.asarray(np.pad(prompt, ((0, 0), (0, padded - width))), jnp.int32),
        lengths=jnp.asarray(lengths, jnp.int32),
        settings=settings,
        order=order,
        capacity=capacity,
        cache=cache,
    )
    decoder.check(request, params)
    return request
