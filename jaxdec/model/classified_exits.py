"""Tokens that leave a network early, and texts that end early, as one classifier of states says: SEC.

Legend: B rows, T new tokens, D width, L layers, V vocabulary.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model.contract import Inputs, Model, Output, Params
from jaxdec.model.layer_choice import choosing
from jaxdec.model.nnx import NnxForward

STOP, EXIT, CONTINUE = range(3)
"""What the classifier tells apart: no layer will be right; this layer is right; a later one may be."""
EXITS = "exits"
"""Where the exits' parameters stand among those of the network."""


class Exits(NamedTuple):
    """What the classifier said of tokens.

    Attributes:
      layer: int32 `[B, T]`, the layer that each leaves after; L for none.
      stopped: bool `[B, T]`, those after which nothing good comes.
    """

    layer: jax.Array
    stopped: jax.Array


@dataclasses.dataclass(frozen=True)
class ClassifiedExits:
    """The forward; see `classified_exits`."""

    forward: NnxForward
    layers: int
    eos: int

    def __call__(self, params: Params, inputs: Inputs, cache: Any = None) -> Output:
        """See `Model`."""
        output, exits = self._exits(params, inputs, cache)
        own = params[EXITS]
        left = inputs.wanted(exits.layer[..., None])[..., 0]
        stopped = inputs.wanted(exits.stopped[..., None])[..., 0]
        logits = output.logits
        for layer in range(1, self.layers):
            here, kernel = left == layer, own["lm_heads"][layer - 1]
            logits = _read_where(here, output.layer_states[-1], kernel, logits)
        ended = jnp.where(jnp.arange(logits.shape[-1]) == self.eos, 0.0, -jnp.inf)
        logits = jnp.where(stopped[..., None], ended, logits)
        layer_states = output.layer_states[:-1]
        return dataclasses.replace(output, logits=logits, layer_states=layer_states)

    def depths(self, params: Params, inputs: Inputs, cache: Any = None) -> jax.Array:
        """Layers that run for each new token, int32 `[B, T]`."""
        return self._exits(params, inputs, cache)[1].layer

    def _exits(self, params: Params, inputs: Inputs, cache: Any) -> tuple[Output, Exits]:
        """The network's output, whose last layer states are those that each token left with, and where it left."""
        own = params[EXITS]
        found = Exits(
            jnp.full(inputs.positions.shape, self.layers, jnp.int32),
            jnp.zeros(inputs.positions.shape, bool),
        )

        def runs(layer: int, x: jax.Array) -> jax.Array:
            nonlocal found
            if layer:  # states before a layer are those after the one before it
                inside = found.layer == self.layers
                said = jax.nn.softmax(classes(own, x))
                choice, sure = jnp.argmax(said, axis=-1), said.max(-1)
                stop = inside & (choice == STOP) & (sure > own["stop"])
                leaves = stop | (inside & (choice == EXIT) & (sure > own["exit"]))
                found = Exits(
                    jnp.where(leaves, jnp.int32(layer), found.layer), found.stopped | stop
                )
            return found.layer == self.layers

        network = {name: part for name, part in params.items() if name != EXITS}
        asked = (*self.forward.layer_states, self.layers)
        forward = dataclasses.replace(self.forward, layer_states=asked)
        return forward(network, inputs, cache, runs=runs), found


def _read_where(
    here: jax.Array, states: jax.Array, kernel: jax.Array, otherwise: jax.Array
) -> jax.Array:
    """Logits of states by a head of their own where `here` says so, bool `[B, T]`; computed where it is anywhere."""

    def read() -> jax.Array:
        logits = jnp.dot(states, kernel, preferred_element_type=jnp.float32)
        return jnp.where(here[..., None], logits, otherwise)

    return jax.lax.cond(here.any(), read, lambda: otherwise)


def classes(params: Params, states: jax.Array) -> jax.Array:
    """Logits float32 `[..., 3]` of the classes, of states `[..., D]` after any layer.

    Args:
      params: those under `exits`.
      states: before the final norm.
    """
    kernel = params["classifier"]["kernel"].astype(states.dtype)
    return (states @ kernel).astype(jnp.float32) + params["classifier"]["bias"]


@typed
def classified_exits(model: Model) -> Model:
    """The same network, which a token leaves after the layer that is right: another model, which every decoder takes.

    After layer l < L one classifier, the same for all layers, reads the state h:

        c = softmax(C h + b):   exit   if argmax c = exit and max c > exit bar:   the law is softmax(W_l h)
                                stop   if argmax c = stop and max c > stop bar:   the law is that the text ends
                                else the next layer runs

    Layers after the exit make their keys and values of the state that the token left with, and no attention and no
    feed-forward unit; a layer that no token of a forward needs is not computed. What a token's law is depends on the
    text alone, so that drafts, chunks and neighbours change nothing.

    Its parameters are the network's and, under `exits`: `lm_heads [L - 1, D, V]`, `classifier` (`kernel [D, 3]`,
    `bias [3]`, for stop, exit, continue) and the two bars, `exit []` and `stop []`; a bar of 1 is never passed.

    Args:
      model: of `from_nnx` over a `Transformer`, or a module that takes `runs=` in its call, with an `eos`.

    Raises:
      ValueError: for a model of no such network, or without a token that ends a text.

    Exactness: another law than the network's, but where both bars are 1.
    Source: SEC, 2401.09964. There the tokens of the prompt run through all layers; here a prompt is read as any text.
    """
    forward, layers = choosing(model)
    if not model.eos:
        raise ValueError("the classifier ends texts, but the model has no eos")
    return dataclasses.replace(model, forward=ClassifiedExits(forward, layers, model.eos[0]))
