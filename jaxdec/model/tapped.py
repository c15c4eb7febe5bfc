"""A network whose outputs carry the hidden states of some of its layers."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxdec.model.contract import Model


def tapped(model: Model, layers: Sequence[int]) -> Model:
    """The same model, whose outputs carry the hidden states after further layers, for who drafts from them.

    They come last in `Output.layer_states`, behind those that were asked for before.

    Args:
      model: of `from_nnx`, over a module that takes `layer_states=` in its call, such as `Transformer`, or any model
        whose forward is a dataclass with `layer_states`. Wrappers are put around the result.
      layers: 0 for the embedding, n for the n-th layer; none changes nothing.

    Raises:
      ValueError: if the forward gives no states of layers, or the network has not so many.
    """
    if not layers:
        return model
    forward = model.forward
    asked = getattr(forward, "layer_states", None)
    if not dataclasses.is_dataclass(forward) or not isinstance(asked, tuple):
        raise ValueError(
            f"only a model of from_nnx gives the states of its layers, got one of {forward!r:.80}; tap it before it is "
            "wrapped"
        )
    most = getattr(getattr(model.init_cache, "config", None), "layers", None)
    for layer in layers:
        if layer < 0 or (most is not None and layer > most):
            limit = "" if most is None else f" to {most}"
            raise ValueError(f"states are those after layers 0{limit}, got {layer}")
    more: Any = dataclasses.replace(forward, layer_states=(*asked, *layers))  # type: ignore[type-var]
    return dataclasses.replace(model, forward=more)
