"""What the parts of a decoder share: a name in the parameters, knobs, a check, and what they see of a forward.

Drafters, verifiers, growth rules, policies, remask rules, stops, fusions and refresh rules are parts. A part may own
weights: they stand under its name in the mapping of parameters, and every hook of a part takes them first, before
anything else (`None` for a part without weights), so that parts with and without weights are written alike:

    params = {"target": ..., "draft": ...};   part.hook(part.own(params), ...)

Legend: B rows, T scored tokens, W positions of a group, D width, V vocabulary.
"""

import dataclasses
from collections.abc import Mapping

import jax

from jaxdec.decoding.contract import target_params
from jaxdec.decoding.request import Knob, Request
from jaxdec.model import Params

TARGET = "target"
"""The name of the target's parameters; a part that asks the target itself has it too."""


class Part:
    """One part of a decoder. Subclasses are frozen dataclasses, so that they compare by value; all methods are pure.

    Attributes:
      name: the key of the part's own parameters in `params`; "" for a part without weights. A subclass with weights
        has a field of this name, so that two parts of one kind can stand side by side.
    """

    name: str = ""

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings that the part takes, by name; none unless a subclass says otherwise."""
        return {}

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError`, before anything is traced, for a request or parameters that the part cannot serve."""
        if self.name in ("", TARGET):
            return
        if not isinstance(params, Mapping):
            raise ValueError(
                f"{type(self).__name__} needs parameters by part: a mapping with {TARGET!r} and {self.name!r}, "
                f"got {type(params).__name__}"
            )
        if self.name not in params:
            raise ValueError(
                f"{type(self).__name__} needs parameters named {self.name!r}; params has {sorted(params)}"
            )

    def own(self, params: Params) -> Params | None:
        """The part's own parameters, `params[name]`; None for a part without weights."""
        if not self.name:
            return None
        return target_params(params) if self.name == TARGET else params[self.name]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scored:
    """What a verifier or a policy sees of the target's forward.

    Attributes:
      logits: float32 `[B, T, V]` over the scored tokens, or `[B, W, V]` over the positions of the active group.
      hidden: `[B, T, D]` or `[B, W, D]`, the states that the logits are read from.
      layer_states: hidden states of the same shape, after the layers that the model was asked for.
    """

    logits: jax.Array
    hidden: jax.Array
    layer_states: tuple[jax.Array, ...] = ()
