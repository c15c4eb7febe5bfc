"""Requests and results as JSON, and back: arrays bit by bit, keys, bytes and tuples as what they were."""

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdec.decoding import Stats, Status
from jaxdec.generation.requests.call import Call
from jaxdec.generation.requests.completed import Completed
from jaxdec.sampling import TopTokens

_PLAIN = (type(None), bool, int, float, str)


def to_json(value: Any, name: str = "value") -> Any:
    """A value as what `json` writes.

    Args:
      value: None, numbers, strings, bytes, arrays, keys, and lists, tuples and mappings of these. Arrays of JAX come
        back as numpy arrays.
      name: for the message.

    Raises:
      ValueError: for anything else.
    """
    if type(value) in _PLAIN:
        return value
    if type(value) is list:
        return [to_json(each, f"{name}[{i}]") for i, each in enumerate(value)]
    if type(value) is tuple:
        return {"tuple": [to_json(each, f"{name}[{i}]") for i, each in enumerate(value)]}
    if isinstance(value, Mapping):
        items = [[to_json(k, name), to_json(v, f"{name}[{k!r}]")] for k, v in value.items()]
        return {"mapping": items}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        kind = str(jax.random.key_impl(value))
        return {"key": [kind, to_json(np.asarray(jax.random.key_data(value)))]}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        if not array.dtype.hasobject:
            content = base64.b64encode(array.tobytes()).decode()
            what = "number" if isinstance(value, np.generic) else "array"
            return {what: [_dtype(array.dtype), list(array.shape), content]}
    raise ValueError(f"{name} is a {type(value).__name__}, which cannot be stored")


def from_json(value: Any) -> Any:
    """The value that `to_json` was given."""
    if isinstance(value, list):
        return [from_json(each) for each in value]
    if not isinstance(value, dict):
        return value
    [(what, held)] = value.items()
    if what == "tuple":
        return tuple(from_json(each) for each in held)
    if what == "mapping":
        return {from_json(key): from_json(each) for key, each in held}
    if what == "bytes":
        return base64.b64decode(held)
    if what == "key":
        return jax.random.wrap_key_data(from_json(held[1]), impl=held[0])
    dtype, shape, content = held
    array = np.frombuffer(base64.b64decode(content), np.dtype(dtype)).reshape(shape).copy()
    return array[()] if what == "number" else array


def _dtype(dtype: np.dtype) -> str:
    """A name that gives the dtype back: types such as bfloat16 have one name, others also an order of bytes."""
    return dtype.name if dtype.kind == "V" else dtype.str


def call_to_json(call: Call) -> dict[str, Any]:
    """A request; what stands at its default is left out.

    Raises:
      ValueError: for one that is no `Call` or holds what cannot be stored, such as its tag.
    """
    if not isinstance(call, Call):
        raise ValueError(f"a request must be a Call, got {type(call).__name__}")
    found = {}
    for field in dataclasses.fields(Call):
        value = getattr(call, field.name)
        if value is not field.default:
            found[field.name] = to_json(value, f"a request's {field.name}")
    return found


def call_from_json(held: dict[str, Any]) -> Call:
    """The request that `call_to_json` was given."""
    return Call(**{name: from_json(value) for name, value in held.items()})


def completed_to_json(done: Completed) -> dict[str, Any]:
    """What came back of a request, without the request."""
    found = {}
    for field in dataclasses.fields(Completed):
        value = getattr(done, field.name)
        if field.name == "stats" and value is not None:
            value = dataclasses.astuple(value)
        elif field.name == "top" and value is not None:
            value = (value.tokens, value.log_probs)
        if field.name != "call":
            found[field.name] = to_json(int(value) if field.name == "status" else value)
    return found


def completed_from_json(held: dict[str, Any], call: Call) -> Completed:
    """What came back of `call`, as `completed_to_json` was given it."""
    found = {name: from_json(value) for name, value in held.items()}
    found["status"] = Status(found["status"])
    for name, kind in (("stats", Stats), ("top", TopTokens)):
        if found[name] is not None:
            found[name] = kind(*found[name])
    return Completed(call=call, **found)
