"""From Flax NNX modules to the contract: pure functions of a dict of parameters."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from flax import nnx

from jaxdec.cache.contract import Cache
from jaxdec.model.contract import Heads, Inputs, Model, Output, Params


@dataclasses.dataclass(frozen=True)
class _Merged:
    """A forward over the state of an NNX module; compares by the module's graph definition."""

    graphdef: nnx.GraphDef
    layer_states: tuple[int, ...] = ()

    def __call__(self, params: Params, inputs: Inputs, cache: Cache | None = None) -> Output:
        module = nnx.merge(self.graphdef, params)
        return (
            module(inputs, cache, layer_states=self.layer_states)
            if self.layer_states
            else module(inputs, cache)
        )


@dataclasses.dataclass(frozen=True)
class _Call:
    """A call of an NNX module as a function of its state; compares by the module's graph definition."""

    graphdef: nnx.GraphDef

    def __call__(self, params: Params, *arguments: Any) -> Any:
        return nnx.merge(self.graphdef, params)(*arguments)


@dataclasses.dataclass(frozen=True)
class _InitCache:
    """The `init_cache` of an NNX module, comparable by its arguments."""

    function: Callable[..., Any]
    config: Any

    def __call__(self, batch: int, capacity: int) -> Any:
        return self.function(self.config, batch, capacity)


def heads_from_nnx(module: Any) -> tuple[Heads, Params]:
    """Splits an NNX module of draft heads into `Heads` and parameters.

    Args:
      module: an `nnx.Module`, callable as `module(hidden, path) -> logits`, with a `config` that has `heads`,
        `width` and `vocab_size`.
    """
    graphdef, state = nnx.split(module)
    config = module.config
    heads = Heads(_Call(graphdef), config.heads, config.width, config.vocab_size)
    return heads, nnx.to_pure_dict(state)


def from_nnx(
    module: Any, *, layer_states: Sequence[int] = (), eos: Sequence[int] = ()
) -> tuple[Model, Params]:
    """Splits an NNX module into a `Model` and its parameters.

    Args:
      module: an `nnx.Module`, callable as `module(inputs, cache)` (with `layer_states=` if they are
        asked for), with a hashable `config` that has `vocab_size`, and a static method
        `init_cache(config, batch, capacity)`.
      layer_states: layers whose hidden states the output carries.
      eos: tokens that end a sequence.

    Returns:
      `(model, params)`; the parameters are a nested dict of arrays, and decoders see pure functions of it, never
      the live module.
    """
    graphdef, state = nnx.split(module)
    params = nnx.to_pure_dict(state)
    config = module.config
    model = Model(
        forward=_Merged(graphdef, tuple(layer_states)),
        init_cache=_InitCache(type(module).init_cache, config),
        vocab_size=config.vocab_size,
        max_length=getattr(config, "max_length", None),
        eos=tuple(eos),
    )
    return model, params
