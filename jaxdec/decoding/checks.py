"""What is checked of arguments before anything is traced. What is traced itself is checked by shape and type alone.

Legend: B rows, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding.request import Request
from jaxdec.model import Inputs, Model, Params, Queries
from jaxdec.sampling import as_array, is_traced, shown

POSITIONS = 1 << 28
"""Tokens that a row may hold at most: draws are addressed by position (`jaxdec.sampling.noise`)."""


def integers(
    name: str,
    value: Any,
    shapes: Sequence[tuple[int | None, ...]],
    *,
    low: int = -(1 << 31),
    high: int = (1 << 31) - 1,
) -> Any:
    """The value as int32: a numpy array, or a traced one.

    Args:
      name: what the value is called.
      value: integers, of no other type.
      shapes: those that are allowed; None for any size.
      low: the least value.
      high: the largest one.

    Raises:
      ValueError: naming the value and the limit.
    """
    known = not is_traced(value)
    given = as_array(name, value, "integers")
    fits = lambda shape: (
        len(shape) == given.ndim
        and all(want in (None, got) for want, got in zip(shape, given.shape, strict=True))
    )
    if given.size and not np.issubdtype(given.dtype, np.integer):
        got = shown(value) if not given.ndim else given.dtype
        raise ValueError(f"{name} must hold integers, got {got}")
    if not any(map(fits, shapes)):
        name_of = lambda shape: f"[{', '.join('any' if n is None else str(n) for n in shape)}]"
        wanted = " or ".join(
            f"have shape {name_of(shape)}" if shape else "be one integer" for shape in shapes
        )
        raise ValueError(f"{name} must {wanted}, got {list(given.shape)}")
    if known:
        outside = (given < low) | (given > high)
        if outside.any():
            place = tuple(int(i) for i in np.argwhere(outside)[0])
            where = f" at {list(place)}" if place else ""
            raise ValueError(f"{name} must lie in [{low}, {high}], got {given[place]}{where}")
    return given.astype(np.int32)


def check_decoder(decoder: Any) -> None:
    """Raises `ValueError` for what is no decoder."""
    if isinstance(decoder, Model):
        raise ValueError(
            "the decoder is a Model, which decodes nothing by itself; take jaxdec.autoregressive(model)"
        )
    lacks = [
        name for name in ("init", "step", "check", "model", "width") if not hasattr(decoder, name)
    ]
    if lacks or isinstance(decoder, type):
        raise ValueError(
            f"the first argument must be a decoder, such as jaxdec.autoregressive(model), got "
            f"{type(decoder).__name__}"
        )
    if not isinstance(decoder.model, Model):
        raise ValueError(
            f"the target of {type(decoder).__name__} must be a jaxdec.Model, got {type(decoder.model).__name__}"
        )


def check_serves(name: str, model: Any, params: Params, request: Request | None = None) -> None:
    """Raises `ValueError` unless a model reads its parameters, has the vocabulary that it states and serves a request.

    Nothing is computed: the shape of the logits is inferred, once for each model and shapes of parameters.

    Args:
      name: what it is called in a message: "model" for the target, "draft model".
      model: what should be a `Model`.
      params: its own parameters.
      request: what it shall decode; None to leave that unchecked.

    Raises:
      ValueError: if `model` is no `Model`; if its forward fails on `params`, or gives logits of another vocabulary than
        `vocab_size`; if a row of the request is longer than `max_length`; if the request has an order of generation
        and the model answers no queries, or has none and the model predicts no next token.
    """
    if not isinstance(model, Model):
        raise ValueError(f"the {name} must be a jaxdec.Model, got {type(model).__name__}")
    if request is not None:
        _check_request(name, model, request)
    leaves, structure = jax.tree.flatten(params)
    try:
        shapes = tuple(map(_shape_of, leaves))
    except (ValueError, TypeError, OverflowError) as error:  # numpy's, of a leaf that is none
        raise ValueError(f"the {name} cannot read its parameters: {shown(params)}") from error
    _check_logits(name, model, structure, shapes)


def _check_request(name: str, model: Model, request: Request) -> None:
    if request.order is None and not model.causal:
        raise ValueError(
            f"the {name} fills gaps or canvases and predicts no next token, but the request is causal"
        )
    if request.order is not None and not model.any_subset:
        raise ValueError(f"the {name} {model.purpose}, but the request fills an order of its own")
    check_length(name, model, request)


def check_length(name: str, model: Model, request: Request) -> None:
    """Raises `ValueError` if a row of the request may become longer than the model's `max_length`."""
    longest, lengths, budget = model.max_length, request.lengths, request.settings.max_new_tokens
    if longest is None or is_traced((lengths, budget)):
        return
    whole = np.asarray(lengths) + np.asarray(budget)
    if whole.max() > longest:
        row = int(np.argmax(whole))
        raise ValueError(
            f"prompt {row} has {lengths[row]} tokens and asks for {budget[row]} more; the {name}'s "
            f"capacity is {longest}"
        )


def _shape_of(leaf: Any) -> tuple[tuple[int, ...], Any]:
    if isinstance(leaf, jax.Array):
        return leaf.shape, leaf.dtype
    return np.shape(leaf), jax.dtypes.canonicalize_dtype(np.result_type(leaf))


@functools.lru_cache(maxsize=256)
def _check_logits(name: str, model: Model, structure: Any, shapes: tuple) -> None:
    tokens = jnp.zeros((1, 2), jnp.int32)

    def logits(params):
        inputs = Inputs.causal(tokens)
        if model.any_subset:
            size = jnp.full((1,), 2, jnp.int32)
            asked = Queries(inputs.positions, inputs.query_spans, size)
            inputs = dataclasses.replace(inputs, queries=asked)
        return model(params, inputs, None).logits

    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    try:
        found = jax.eval_shape(logits, structure.unflatten(leaves))
    except Exception as error:
        text = str(error).strip().split("\n")[0]
        raise ValueError(
            f"the {name} cannot read its parameters: {type(error).__name__}: {text}"
        ) from error
    if found.shape != (1, 2, model.vocab_size):
        raise ValueError(
            f"the {name} states a vocabulary of {model.vocab_size}, but its logits for 2 tokens have shape "
            f"{list(found.shape)}"
        )
