"""What the parts of a decoder share: a name in the parameters, knobs, a check, and what they see of a forward.

Drafters, verifiers, growth rules, policies, remask rules, stops, fusions and refresh rules are parts. A part may own
weights: they stand under its name in the mapping of parameters, and every hook of a part takes them first, before
anything else (`None` for a part without weights), so that parts with and without weights are written alike:

    params = {"target": ..., "draft": ...};   part.hook(part.own(params), ...)

Legend: B rows, T scored tokens, W positions of a group, D width, V vocabulary.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from jaxdec.decoding.request import Knob, Request
from jaxdec.model import Params

TARGET = "target"
"""The name of the target's parameters; a part that asks the target itself has it too."""


def check_parts(params: Params, names: Iterable[str]) -> None:
    """Raises `ValueError` unless parameters are a mapping with the target's and those of each of some parts.

    Args:
      params: parameters by part name.
      names: of the parts that are needed beside the target.
    """
    needed = list(dict.fromkeys((TARGET, *names)))
    named = isinstance(params, Mapping)
    if named and all(name in params for name in needed):
        return
    got = type(params).__name__
    if named:
        keys = [repr(key) for key in params]
        got += (
            f" with {', '.join(keys[:4])}" + ", ..." * (len(keys) > 4) if keys else " with nothing"
        )
    message = (
        f"params must be a mapping by part name, with {', '.join(map(repr, needed))}; got {got}"
    )
    if not (named and TARGET in params):
        others = "".join(f", {name!r}: ..." for name in needed[1:])
        message += f": pass {{{TARGET!r}: params{others}}}"
    raise ValueError(message)


def target_params(params: Params) -> Params:
    """The target's parameters, `params["target"]`.

    Raises:
      ValueError: if `params` is no mapping by part name.
    """
    check_parts(params, ())
    return params[TARGET]


def part_names(decoder: Any) -> tuple[str, ...]:
    """The names of the parts of a decoder that have weights, those beside the target."""
    return tuple(name for part in getattr(decoder, "parts", ()) for name in part.names)


class Part:
    """One part of a decoder. Subclasses are frozen dataclasses, so that they compare by value; all methods are pure.

    Attributes:
      name: the key of the part's own parameters in `params`; "" for a part without weights. A subclass with weights
        has a field of this name, so that two parts of one kind can stand side by side.
    """

    name: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names in `params` of all that it reads: its own, and those of parts within it."""
        return (self.name,) if self.name else ()

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings that the part takes, by name; none unless a subclass says otherwise."""
        return {}

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError`, before anything is traced, for a request or parameters that the part cannot serve."""
        if self.names:
            check_parts(params, self.names)

    def own(self, params: Params) -> Params | None:
        """The part's own parameters, `params[name]`; None for a part without weights."""
        return params[self.name] if self.name else None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scored:
    """What a verifier or a policy sees of the target's forward.

    Attributes:
      logits: float32 `[B, T, V]` over the scored tokens, or `[B, W, V]` over the positions of the active group.
      hidden: `[B, T, D]` or `[B, W, D]`, the states that the logits are read from.
      layer_states: hidden states of the same shape, after the layers that the model was asked for.
      asides: float32 `[B, M, V]`, logits after the tokens that a verifier had scored beside; None without.
    """

    logits: jax.Array
    hidden: jax.Array
    layer_states: tuple[jax.Array, ...] = ()
    asides: jax.Array | None = None
