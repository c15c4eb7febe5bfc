"""What models share that run some of a network's layers for each token."""

import inspect

from jaxdec.model.contract import Model
from jaxdec.model.nnx import NnxCache, NnxForward


def choosing(model: Model) -> tuple[NnxForward, int]:
    """The forward of a network that can pass layers by, and the number of its layers.

    Args:
      model: of `from_nnx`, over a module that takes `runs=` in its call and whose `config` has `layers`, such as
        `Transformer`.

    Raises:
      ValueError: if it cannot, or is cut already.
    """
    forward, init = model.forward, model.init_cache
    if not isinstance(forward, NnxForward) or not isinstance(init, NnxCache):
        raise ValueError(
            f"layers are chosen of a model of from_nnx with a config, got one of {forward!r:.80}; choose them before "
            "it is wrapped"
        )
    module = forward.identity[0]
    if "runs" not in inspect.signature(module.__call__).parameters:
        raise ValueError(f"{module.__name__} has no choice of layers: its call takes no runs=")
    if forward.layers is not None:
        raise ValueError(f"the network is cut after {forward.layers} layers already")
    return forward, init.config.layers
