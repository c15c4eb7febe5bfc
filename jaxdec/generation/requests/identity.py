"""What an engine is, as far as its results and its state depend on it, in a form that another process can compare."""

import dataclasses
import enum
import functools
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.model import Params

if TYPE_CHECKING:
    from jaxdec.generation.requests.engine import Engine

_LONG = 200
_ODD = 0x9E3779B1


def decodes(engine: "Engine") -> dict[str, Any]:
    """All that a request's result depends on beside the request: strings and numbers, nested, for `difference`."""
    like = engine.template
    return {
        "decoder": describe(like.decoder),
        "parameters": parameters(engine._params),
        "max_prompt": like.max_prompt,
        "max_new_tokens": like.max_new_tokens,
        "gaps": like.gaps,
        "settings": describe(dict(like.knobs)),
        "stop_room": list(like.room),
        "stop_strings": describe(None if like.strings is None else tuple(like.strings[0])),
        "top_log_probs": like.request.top_log_probs,
        "cache": describe(like.request.cache),
    }


def sizes(engine: "Engine") -> dict[str, Any]:
    """What the shape and the meaning of the state depend on beside that."""
    own = engine._engine
    return {
        "slots": engine.slots * engine.lanes,
        "places": engine.places * engine.lanes,
        "devices of the axis 'data'": engine.lanes,
        "ring": own.ring * engine.lanes,
        "chunk": own.chunk,
        "policy": describe(own.policy),
        "prefixes": [list(tokens) for tokens in engine._prefixes.tokens],
    }


def leaves(tree: Any) -> dict[str, str]:
    """Shape and dtype of each array of a tree, by its path."""
    return {
        jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}"
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def parameters(params: Params) -> dict[str, str]:
    """Shape, dtype and a sum of the bits of each array of parameters, by its path."""
    arrays = jax.tree.map(jnp.asarray, params)
    sums = np.asarray(_sums(jax.tree.leaves(arrays)))
    return {
        path: f"{what} #{value:08x}"
        for (path, what), value in zip(leaves(arrays).items(), sums.tolist(), strict=True)
    }


@jax.jit
def _sums(arrays: list[jax.Array]) -> jax.Array:
    """uint32 `[N]`: the bits of each array, weighted by place so that an exchange is seen, summed modulo 2^32."""

    def bits(x: jax.Array) -> jax.Array:
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            return jnp.stack([bits(x.real), bits(x.imag)])
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x.astype(jnp.uint32)
        x = x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)  # exact
        return jax.lax.bitcast_convert_type(x, jnp.uint32)

    def one(x: jax.Array) -> jax.Array:
        x = bits(x)
        weight = jnp.ones(x.shape, jnp.uint32)
        for axis in range(x.ndim):
            place = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
            weight = weight * jnp.uint32(_ODD) + jnp.uint32(2) * place
        return jnp.sum(x * weight, dtype=jnp.uint32)

    return jnp.stack([one(x) for x in arrays]) if arrays else jnp.zeros((0,), jnp.uint32)


def describe(value: Any) -> Any:
    """A value that is compared by what it says: no addresses, and no more of a function than where it is defined."""
    if isinstance(value, enum.Enum):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = [field.name for field in dataclasses.fields(value) if field.compare]
        return {"type": _name(type(value)), **{n: describe(getattr(value, n)) for n in own}}
    if isinstance(value, Mapping):
        return {str(key): describe(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [describe(each) for each in value]
    if isinstance(value, functools.partial):
        return [describe(each) for each in (value.func, value.args, value.keywords)]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)  # type: ignore[arg-type]
        array = np.asarray(value)
        return f"{array.dtype}{list(array.shape)} #{_hash(array.tobytes())}"
    if isinstance(value, type) or callable(value):
        return _name(value)
    said = repr(value)
    if " at 0x" in said:
        return _name(type(value))
    return said if len(said) <= _LONG else f"{_name(type(value))} #{_hash(said.encode())}"


def difference(held: Any, own: Any, name: str = "") -> str | None:
    """Where two descriptions differ first, in words; None if they do not.

    Args:
      held: of what was stored.
      own: of what there is.
      name: of both.
    """
    if isinstance(held, dict) and isinstance(own, dict):
        for key in dict.fromkeys((*held, *own)):
            path = key if key.startswith("[") or not name else f".{key}"
            found = difference(held.get(key), own.get(key), f"{name}{path}")
            if found:
                return found
        return None
    if isinstance(held, list) and isinstance(own, list) and len(held) == len(own):
        pairs = enumerate(zip(held, own, strict=True))
        return next(filter(None, (difference(*two, f"{name}[{i}]") for i, two in pairs)), None)
    return None if held == own else f"{name} is {_said(held)}, not {_said(own)}"


def _said(value: Any) -> str:
    said = str(value)
    return said if len(said) <= _LONG else f"{said[:_LONG]}..."


def _name(value: Any) -> str:
    value = value if hasattr(value, "__qualname__") else type(value)
    return f"{value.__module__}.{value.__qualname__}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
