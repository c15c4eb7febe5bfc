"""A network cut after its first layers, as a model of its own."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model.contract import Inputs, Model, Params
from jaxdec.model.nnx import NnxCache, NnxForward


@typed
def early_exit(model: Model, layers: int) -> Model:
    """The same network cut after its first layers: their states go to the final norm and the head.

        logits = head(norm(h_n)),   h_n the hidden states after layer n

    It is a model over the same parameters, and reads the first layers of the target's own cache: a drafter that asks
    it about `Context.cache` drafts with a part of the target (self-speculation), without a second prefill or a second
    cache. Its `init_cache` gives one of these layers alone, for use as a model of its own.

    Args:
      model: of `from_nnx`, over a module that takes `layers=` in its call and whose `config` has `layers`, such as
        `Transformer`. Wrappers such as `two_stream` are put around the result.
      layers: n, 1 to the number of layers.

    Raises:
      ValueError: if the module cannot be cut, or there are not so many layers.

    Exactness: that of whoever verifies its drafts. Source: 2404.16710 (LayerSkip), without its training.
    """
    forward, init = model.forward, model.init_cache
    if not isinstance(forward, NnxForward) or not isinstance(init, NnxCache):
        raise ValueError(
            f"only a model of from_nnx with a config can be cut, got one of {forward!r:.80}; cut it "
            "before it is wrapped"
        )
    module = forward.identity[0]
    if "layers" not in inspect.signature(module.__call__).parameters:
        raise ValueError(f"{module.__name__} cannot be cut: its call takes no layers=")
    whole = init.config.layers
    if not 1 <= layers <= whole:
        raise ValueError(f"layers must be 1 to {whole}, got {layers}")
    asked = [layer for layer in forward.layer_states if layer > layers]
    if asked:
        raise ValueError(f"the states of layer {asked[0]} are asked for, but only {layers} are run")
    return dataclasses.replace(
        model,
        forward=dataclasses.replace(forward, layers=layers),
        init_cache=dataclasses.replace(
            init, config=dataclasses.replace(init.config, layers=layers)
        ),
    )


@dataclasses.dataclass(frozen=True)
class Readout:
    """The final norm and the head of a network; see `readout`."""

    forward: NnxForward

    def __call__(self, params: Params, states: jax.Array) -> jax.Array:
        """Logits float32 `[B, T, V]` of states `[B, T, D]` after some layer."""
        places = jnp.zeros((len(states),), jnp.int32)
        span = Inputs.causal(jnp.zeros(states.shape[:2], jnp.int32), places)
        return self.forward(params, dataclasses.replace(span, tokens=states), None).logits


@typed
def readout(model: Model) -> Readout:
    """What a network would say after each of its layers: `(params, states) -> logits`.

        logits = head(norm(h))

    Args:
      model: as for `early_exit`.

    Raises:
      ValueError: if it cannot be cut, or adds learned positions to what it is given.
    """
    forward = early_exit(model, 1).forward
    assert isinstance(forward, NnxForward)
    if getattr(model.init_cache.config, "positions", None) == "learned":  # type: ignore[attr-defined]
        raise ValueError(
            "a network with learned positions adds them to states, which cannot be read"
        )
    return Readout(dataclasses.replace(forward, layers=0, layer_states=()))
