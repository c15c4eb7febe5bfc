"""Fewer layers the later a token stands: SkipDecode.

Legend: B rows, T new tokens, L layers.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model.contract import Inputs, Model, Output, Params
from jaxdec.model.layer_choice import choosing
from jaxdec.model.nnx import NnxForward


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How many layers run for a token, by its place.

        budget(t) = most - round((most - least) min(max(t - start, 0), over) / over)

    The first `first` layers run, and of all others the last: what runs at a place ran at every place before it.

    Attributes:
      layers: L.
      least: layers of a late token.
      most: of an early one.
      first: that run always.
      start: the last place of the largest budget.
      over: places from there on to the smallest one.
    """

    layers: int
    least: int
    most: int
    first: int
    start: int
    over: int

    def budget(self, positions: jax.Array) -> jax.Array:
        """Layers that run at positions, int32 of their shape."""
        late = jnp.clip(positions - self.start, 0, self.over)
        return self.most - ((self.most - self.least) * late + self.over // 2) // self.over

    def runs(self, layer: int, positions: jax.Array) -> jax.Array:
        """Whether a layer runs at positions, bool of their shape."""
        if layer < self.first:
            return jnp.ones(positions.shape, bool)
        return layer >= self.layers - (self.budget(positions) - self.first)


@dataclasses.dataclass(frozen=True)
class SkipDecode:
    """The forward; see `skip_decode`."""

    forward: NnxForward
    schedule: Schedule

    def __call__(self, params: Params, inputs: Inputs, cache: Any = None) -> Output:
        """See `Model`."""
        runs = lambda layer, _: self.schedule.runs(layer, inputs.positions)
        return self.forward(params, inputs, cache, runs=runs)

    def depths(self, params: Params, inputs: Inputs, cache: Any = None) -> jax.Array:
        """Layers that run for each new token, int32 `[B, T]`."""
        return self.schedule.budget(inputs.positions)


@typed
def skip_decode(
    model: Model,
    *,
    least: int,
    over: int,
    most: int | None = None,
    first: int = 1,
    start: int = 0,
) -> Model:
    """The same network with fewer layers the later a token stands: another model, which every decoder takes.

        budget(t) = most - round((most - least) min(max(t - start, 0), over) / over),   t the token's position

    The first `first` layers and the last `budget - first` run, and the state of a token passes those between unchanged.
    What runs for a token ran for all tokens before it, so that no key is read that a layer did not compute; a layer
    that no token of a forward needs is not computed.

    Args:
      model: of `from_nnx` over a `Transformer`, or a module that takes `runs=` in its call. Wrappers such as
        `two_stream` are put around the result.
      least: layers of a late token, at least `first`.
      over: positions over which the budget shrinks, at least 1.
      most: layers of an early token; all if not given.
      first: layers that always run, at least 1.
      start: position up to which the budget is the largest, such as the length of the longest prompt.

    Raises:
      ValueError: for a model of no such network, or sizes that are not `1 <= first <= least <= most <= L`.

    Exactness: another law than the network's, but for `least = most = L`; each row's budget is that of its own places,
    so that neighbours change nothing.
    Source: SkipDecode, 2307.02628. There the budget goes by the tokens generated, one for the batch, and the network is
    fine-tuned for it; here by positions, which are what a model knows, and the network is as it is.
    """
    forward, layers = choosing(model)
    most = layers if most is None else most
    for name, size in (("first", first), ("over", over)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    if not first <= least <= most <= layers:
        raise ValueError(
            f"layers must be first <= least <= most <= {layers}, got {first}, {least}, {most}"
        )
    if start < 0:
        raise ValueError(f"start must be at least 0, got {start}")
    schedule = Schedule(layers, least, most, first, start, over)
    return dataclasses.replace(model, forward=SkipDecode(forward, schedule))
