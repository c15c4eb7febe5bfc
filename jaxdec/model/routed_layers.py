"""Layers that a prompt chooses for all that follows it: FiRST.

Legend: B rows, T new tokens, D width, L layers.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.cache import RoutedCache, RoutedEntries
from jaxdec.model.contract import Inputs, Model, Output, Params
from jaxdec.model.layer_choice import choosing
from jaxdec.model.nnx import NnxCache, NnxForward

ROUTERS = "routers"
"""Where the routers' parameters stand among those of the network."""


def shares(params: Params, layer: int, states: jax.Array) -> jax.Array:
    """What a layer's router says of states before the layer, float32 in (0, 1).

        r = sigmoid(w_l . h / rms(h) + b_l)

    Args:
      params: those under `routers`.
      layer: 0 to L - 1.
      states: `[..., D]`.
    """
    states = states.astype(jnp.float32)
    states *= jax.lax.rsqrt(jnp.mean(states**2, axis=-1, keepdims=True) + 1e-6)
    return jax.nn.sigmoid(states @ params["kernel"][layer] + params["bias"][layer])


@dataclasses.dataclass(frozen=True)
class RoutedLayers:
    """The forward; see `routed_layers`."""

    forward: NnxForward

    def __call__(self, params: Params, inputs: Inputs, cache: Any = None) -> Output:
        """See `Model`."""
        output, keep = self._run(params, inputs, cache)
        return dataclasses.replace(output, entries=RoutedEntries(output.entries, keep))

    def depths(self, params: Params, inputs: Inputs, cache: Any = None) -> jax.Array:
        """Layers that run for each new token, int32 `[B, T]`."""
        keep = self._run(params, inputs, cache)[1]
        ran = sum(kept.astype(jnp.int32) for kept in keep)
        return jnp.broadcast_to(jnp.asarray(ran)[:, None], inputs.positions.shape)

    def _run(
        self, params: Params, inputs: Inputs, cache: Any
    ) -> tuple[Output, tuple[jax.Array, ...]]:
        """The network's output, and which layers run, bool `[B]` each."""
        if cache is not None and not isinstance(cache, RoutedCache):
            raise ValueError(
                f"routed layers need the cache that remembers them, got {type(cache).__name__}: it can be neither "
                "wrapped nor split over devices"
            )
        own, keep = params[ROUTERS], []
        exists = (inputs.key_spans != jnp.asarray(visibility.EMPTY)).any(-1)

        def runs(layer: int, x: jax.Array) -> jax.Array:
            said = jnp.where(exists, shares(own, layer, x), 0).sum(1)
            wanted = (said > own["threshold"] * exists.sum(1)) | ~exists.any(1)
            keep.append(wanted if cache is None else cache.decided(layer, wanted))
            return jnp.broadcast_to(keep[-1][:, None], exists.shape)

        network = {name: part for name, part in params.items() if name != ROUTERS}
        inner = None if cache is None else cache.inner
        output = self.forward(network, inputs, inner, runs=runs)
        return output, tuple(keep)


@dataclasses.dataclass(frozen=True)
class RoutedInit:
    """The `init_cache` of routed layers."""

    init: NnxCache

    def __call__(self, batch: int, capacity: int) -> RoutedCache:
        """An empty cache."""
        return RoutedCache.around(self.init(batch, capacity))


@typed
def routed_layers(model: Model) -> Model:
    """The same network, of which each row runs the layers that its prompt chose: another model, for every decoder.

        keep layer l   iff   mean over the prompt's tokens of r_l(h) > threshold,   h the states before the layer

    Layers are decided one after the other as the prompt is read, for its states depend on what ran before; all that
    follows runs the same layers, and the cache remembers which (`RoutedCache`). A layer that no row keeps is not
    computed. A prompt that is read in chunks is judged by its first chunk, and tokens that are scored without a cache
    by themselves.

    Its parameters are the network's and, under `routers`: `kernel [L, D]`, `bias [L]` and the `threshold []`, below 0
    to keep all layers.

    Args:
      model: of `from_nnx` over a `Transformer`, or a module that takes `runs=` in its call.

    Raises:
      ValueError: for a model of no such network.

    Exactness: another law than the network's, but where every layer is kept; neighbours change nothing.
    Source: FiRST, 2410.12513, its routers; the network itself is not adapted to them (there by low-rank updates).
    """
    forward, _ = choosing(model)
    assert isinstance(model.init_cache, NnxCache)
    return dataclasses.replace(
        model, forward=RoutedLayers(forward), init_cache=RoutedInit(model.init_cache)
    )
