"""The arguments of `generate`: checked before anything is traced, and padded to buckets.

Everything stays in numpy until the one jitted call that reads it, unless it is traced itself.

Legend: B rows, P prompt width, L positions.
"""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.cache import Cache
from jaxdec.decoding import (
    Decoder,
    Request,
    Settings,
    Stops,
    by_row,
    check_decoder,
    check_length,
    check_parts,
    check_serves,
    integers,
    part_names,
    target_params,
)
from jaxdec.decoding.checks import POSITIONS
from jaxdec.generation.constraining import constraint, constraint_between
from jaxdec.model import Order, Params
from jaxdec.sampling import Warp, as_array, is_traced
from jaxdec.text import StopTable, Tokenizer, stop_table

ARGUMENTS = (
    "max_new_tokens",
    "lengths",
    "eos",
    "stop",
    "stop_strings",
    "tokenizer",
    "order",
    "hypotheses",
    "top_log_probs",
    "most_new_tokens",
    "cache",
    "rng",
)
"""What `generate` takes beside knobs, for the message about one that it does not know."""


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
    stop_strings: Any = (),
    tokenizer: Tokenizer | None = None,
    order: Order | None = None,
    hypotheses: int = 1,
    top_log_probs: int = 0,
    most_new_tokens: int | None = None,
    cache: Callable[[Any], Cache] | None = None,
    **knobs: Any,
) -> Request:
    """Checks the arguments of `generate` and pads them to buckets; see there.

    Raises:
      ValueError: naming the value and the limit.
    """
    check_decoder(decoder)
    model = decoder.model
    prompt, lengths = _prompts(prompt, lengths, model.vocab_size)
    batch, width = prompt.shape
    hypotheses = _static("hypotheses", hypotheses, 1)
    budget, most = _budget(max_new_tokens, most_new_tokens, batch)
    _check_kinds(order, cache, tokenizer)
    _check_purpose(decoder, order)
    strings = _strings(stop_strings, tokenizer, batch, model.vocab_size)
    stops = Stops.create(
        model.eos if eos is None else eos,
        stop,
        model.vocab_size,
        None if strings is None else strings.table,
    )
    if knobs.get("min_new_tokens") is not None:
        knobs.setdefault("ends", stops.eos)
    if order is not None or getattr(decoder, "fills_canvas", False):
        _check_neighbours(knobs)
    if knobs.get("constraint") is not None:
        knobs["constraint"] = _constraint(
            decoder, knobs["constraint"], prompt, stops.eos, budget, most, order
        )
    settings = Settings(
        max_new_tokens=budget,
        stops=stops,
        stop_state=None if strings is None else strings.start,
        **_knobs(decoder, knobs, batch, hypotheses),
    )
    padded = bucket(width)
    # The slack lets a step write its whole chunk at the last committed token.
    capacity = padded + bucket(most) + bucket(decoder.width, 8)
    if capacity > POSITIONS:
        raise ValueError(f"{width + most} tokens a row are too many; {POSITIONS} is the limit")
    longest = _longest(model, lengths, budget, capacity)
    request = Request(
        prompt=_pad(prompt, padded),
        lengths=lengths,
        settings=settings,
        order=None if order is None else _padded_order(order, batch, capacity, longest),
        capacity=capacity,
        longest=longest or 0,
        hypotheses=hypotheses,
        top_log_probs=_static("top_log_probs", top_log_probs, 0, model.vocab_size),
        cache=cache,
    )
    check_length("model", model, request)
    check_parts(params, part_names(decoder))
    check_serves("model", model, target_params(params))
    if hypotheses > 1:
        request = _repeated(request, hypotheses)
    decoder.check(request, params)
    return request


def _repeated(request: Request, hypotheses: int) -> Request:
    """What is one a prompt in each of its rows; the knobs are one a row already."""
    repeat = lambda x: (jnp if is_traced(x) else np).repeat(x, hypotheses, axis=0)
    given = request.settings
    bare = dataclasses.replace(given, warp=Warp(), knobs={})
    request = dataclasses.replace(request, settings=bare)
    request = by_row(request, repeat, lambda stops: stops)
    settings = dataclasses.replace(request.settings, warp=given.warp, knobs=given.knobs)
    return dataclasses.replace(request, settings=settings)


def _prompts(prompt: Any, lengths: Any, vocab_size: int) -> tuple[Any, Any]:
    """Prompts int32 `[B, P]` and their lengths int32 `[B]`."""
    prompt = as_array("prompt", prompt, "integers [B, P], in rows of equal length")
    if prompt.ndim != 2:
        raise ValueError(f"prompt must have shape [B, P], got {prompt.shape}")
    if not np.issubdtype(prompt.dtype, np.integer):
        raise ValueError(f"prompt must hold integer tokens, got {prompt.dtype}")
    batch, width = prompt.shape
    if batch < 1:
        raise ValueError("prompt has no rows; at least 1 is needed")
    if width < 1:
        raise ValueError("prompt 0 has 0 tokens; at least 1 is needed")
    lengths = integers("lengths", np.full(batch, width) if lengths is None else lengths, [(batch,)])
    if not is_traced(lengths):
        for row, length in enumerate(lengths.tolist()):
            if not 1 <= length <= width:
                raise ValueError(f"prompt {row} has {length} tokens; 1 to {width} are allowed")
    if not is_traced((prompt, lengths)):
        inside = np.arange(width) < lengths[:, None]
        bad = inside & ((prompt < 0) | (prompt >= vocab_size))
        if bad.any():
            row, place = np.argwhere(bad)[0]
            raise ValueError(
                f"prompt token {prompt[row, place]} at row {row}, position {place} is outside the "
                f"vocabulary of {vocab_size}"
            )
    return prompt.astype(np.int32), lengths


def _budget(max_new_tokens: Any, most: int | None, batch: int) -> tuple[Any, int]:
    """New tokens of each row at most, int32 `[B]`, and a bound on them all, which sizes the buffers."""
    traced = is_traced(max_new_tokens)
    if most is None and traced:
        raise ValueError(
            "max_new_tokens is traced, and buffers have a fixed size: give a bound, most_new_tokens"
        )
    limit = POSITIONS
    if most is not None:
        limit = int(integers("most_new_tokens", most, [()], low=0, high=POSITIONS))
    budget = integers("max_new_tokens", max_new_tokens, [(), (batch,)], low=0, high=limit)
    if traced:
        return jnp.broadcast_to(jnp.clip(budget, 0, limit), (batch,)), limit
    return np.broadcast_to(budget, (batch,)), int(budget.max()) if most is None else limit


def _strings(
    stop_strings: Any, tokenizer: Tokenizer | None, batch: int, vocab_size: int
) -> StopTable | None:
    """What rows follow to find their stop strings; None if there are none."""
    if isinstance(stop_strings, list | tuple) and not stop_strings:
        return None
    if tokenizer is None:
        raise ValueError(
            "stop_strings needs the model's tokenizer: give tokenizer=, such as jaxdec.text.BYTES"
        )
    return stop_table(tokenizer, stop_strings, batch, vocab_size)


def _check_kinds(order: Any, cache: Any, tokenizer: Any) -> None:
    """Raises `ValueError` for what stands in the place of an order, a cache or a tokenizer and is none."""
    kind = lambda value: getattr(value, "__name__", type(value).__name__)
    if order is not None and not isinstance(order, Order):
        raise ValueError(
            f"order must be an Order, such as any_subset.lattice gives, got {kind(order)}"
        )
    if cache is not None and not callable(cache):
        raise ValueError(
            f"cache must be a function from a model's empty cache to the one that is used, got {kind(cache)}"
        )
    if tokenizer is None:
        return
    needed = ("vocab_size", "special_tokens", "pieces")  # of what stop strings ask for
    if isinstance(tokenizer, type) or not all(hasattr(tokenizer, name) for name in needed):
        raise ValueError(
            f"tokenizer must be a Tokenizer, such as jaxdec.text.BYTES, got {kind(tokenizer)}"
        )


def _check_purpose(decoder: Decoder, order: Order | None) -> None:
    """Raises `ValueError` for a model that was not made for what the decoder and the request do with it."""
    model, fills_canvas = decoder.model, getattr(decoder, "fills_canvas", False)
    if fills_canvas:
        return
    if model.canvas:
        raise ValueError(
            "the model fills a canvas and predicts no next token; decode it with jaxdec.denoise, or make a causal "
            "model of it with diffusion.next_token"
        )
    if order is not None and not model.any_subset:
        raise ValueError(
            f"the model {model.purpose}, and cannot fill an order of the request; wrap one that was trained for it "
            "with any_subset.two_stream or any_subset.masked_rows"
        )
    if order is None and not model.causal:
        raise ValueError(
            "the model fills gaps and predicts no next token; use jaxdec.infill"
            if model.any_subset
            else f"the model {model.purpose}, and predicts no next token"
        )


def _knobs(decoder: Decoder, given: dict[str, Any], batch: int, hypotheses: int) -> dict[str, Any]:
    """The warp and the decoder's own knobs, one a row, as `Settings` holds them."""
    own = getattr(decoder, "knobs", {})
    warp = [field.name for field in dataclasses.fields(Warp)]
    for name in given:
        if name not in own and name not in warp:
            near = difflib.get_close_matches(name, [*own, *warp, *ARGUMENTS], n=1)
            raise ValueError(
                f"there is no setting {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else "")
                + f" Settings are {', '.join(warp)}"
                + (f"; this decoder's own are {', '.join(own)}" if own else "")
            )
    pipeline = Warp(**{name: value for name, value in given.items() if name not in own})
    return dict(
        warp=pipeline.validate(batch, decoder.model.vocab_size, hypotheses),
        knobs={
            name: knob.checked(name, given.get(name), batch, hypotheses)
            for name, knob in own.items()
        },
    )


def _check_neighbours(knobs: dict[str, Any]) -> None:
    """Raises `ValueError` for bans that read the tokens to the left, which an order or a canvas may not know yet."""
    for name in ("no_repeat_ngram", "bad_words"):
        if knobs.get(name) is not None:
            raise ValueError(
                f"{name} reads the tokens before a place, got a request in which they may be filled later; must be "
                "left out"
            )


def _constraint(
    decoder: Decoder, given: Any, prompt: Any, eos: Any, budget: Any, most: int, order: Order | None
) -> Any:
    """The constraint of a request: of what follows its prompt, or of the whole sequence where gaps are filled."""
    if getattr(decoder, "fills_canvas", False):
        raise ValueError(
            "constraint reads the tokens before a place, got a decoder that fills a canvas in any order; must be left "
            "out"
        )
    size = len(prompt), decoder.model.vocab_size, eos
    if order is None:
        return constraint(given, *size, budget, bucket(most))
    return constraint_between(given, *size, prompt, order, bucket(most))


def _static(name: str, value: Any, low: int, high: int = POSITIONS) -> int:
    if is_traced(value):
        raise ValueError(f"{name} must be an integer; it is traced")
    return int(integers(name, value, [()], low=low, high=high))


def _longest(model: Any, lengths: Any, budget: Any, capacity: int) -> int | None:
    """Positions of every row at most, in a bucket, where they cost something: for a model that scores whole rows."""
    if not model.whole_rows or is_traced((lengths, budget)):
        return None
    return min(bucket(int((lengths + budget).max())), capacity)


def _padded_order(order: Order, batch: int, capacity: int, longest: int | None) -> Order:
    """The order with `capacity` places a row."""
    places = integers("the places of an order", order.places, [(batch, None)])
    visible = integers("the visible ranks of an order", order.visible, [(batch,)])
    size = integers("the size of an order", order.size, [(batch,)])
    return Order(_pad(places, capacity)[:, :capacity], visible, size, longest)


def _pad(array: Any, width: int) -> Any:
    """The array `[B, N]` with zeros behind it, up to `width`."""
    missing = max(width - array.shape[1], 0)
    return (jnp if is_traced(array) else np).pad(array, ((0, 0), (0, missing)))
