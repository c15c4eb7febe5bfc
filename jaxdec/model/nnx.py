"""From Flax NNX modules to the contract: pure functions of a dict of parameters.

What is built from a module compares by the module's class and its `config`, so that two modules of one configuration,
such as two loads of a checkpoint, share all compiled programs. So whatever changes the network belongs in its
`config`; a module without one compares by its graph definition.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from jaxdec.cache.contract import Cache
from jaxdec.model.contract import Heads, Inputs, Model, Output, Params, ScoreHead

if TYPE_CHECKING:  # where it is called: who brings no module of Flax need not wait for it
    from flax import nnx


@dataclasses.dataclass(frozen=True)
class _Call:
    """A call of an NNX module as a function of its state.

    Attributes:
      graphdef: of the module.
      identity: what it compares by.
      method: of the module, by name.
    """

    graphdef: "nnx.GraphDef" = dataclasses.field(compare=False)
    identity: Any
    method: str = "__call__"

    @classmethod
    def of(cls, module: Any, **more: Any) -> tuple[Self, Params]:
        """The call, and the state as a nested dict."""
        from flax import nnx

        graphdef, state = nnx.split(module)
        config = getattr(module, "config", None)
        identity = graphdef if config is None else (type(module), config)
        return cls(graphdef, identity, **more), nnx.to_pure_dict(state)

    def __call__(self, params: Params, *arguments: Any, **named: Any) -> Any:
        from flax import nnx

        return getattr(nnx.merge(self.graphdef, params), self.method)(*arguments, **named)


@dataclasses.dataclass(frozen=True)
class NnxForward(_Call):
    """The forward of a module that meets the contract.

    Attributes:
      layer_states: layers whose hidden states the output carries.
      layers: how many layers run; all of them for None.
    """

    layer_states: tuple[int, ...] = ()
    layers: int | None = None

    def __call__(  # type: ignore[override]
        self, params: Params, inputs: Inputs, cache: Cache | None = None, runs: Any = None
    ) -> Output:
        """See `Model`; `runs` says for which tokens each layer runs, where the module takes it (`layer_choice`)."""
        asked = {"layer_states": self.layer_states or None, "layers": self.layers, "runs": runs}
        asked = {name: value for name, value in asked.items() if value is not None}
        return super().__call__(params, inputs, cache, **asked)


@dataclasses.dataclass(frozen=True)
class NnxCache:
    """The `init_cache` of an NNX module, comparable by its arguments; `dtype` of the cache if it is not the default."""

    function: Callable[..., Any]
    config: Any
    dtype: Any = None

    def __call__(self, batch: int, capacity: int) -> Any:
        """An empty cache."""
        more = {} if self.dtype is None else {"dtype": self.dtype}
        return self.function(self.config, batch, capacity, **more)


def heads_from_nnx(module: Any) -> tuple[Heads, Params]:
    """Splits an NNX module of draft heads into `Heads` and parameters.

    Args:
      module: an `nnx.Module`, callable as `module(hidden, path) -> logits`, with a `config` that has `heads`,
        `width` and `vocab_size`.
    """
    law, params = _Call.of(module)
    config = module.config
    return Heads(law, config.heads, config.width, config.vocab_size), params


def score_from_nnx(module: Any) -> tuple[ScoreHead, Params]:
    """Splits an NNX module that scores hidden states into a `ScoreHead` and parameters.

    Args:
      module: an `nnx.Module`, callable as `module(hidden) -> logits`, with a `config` that has `width`.
    """
    logit, params = _Call.of(module)
    return ScoreHead(logit, module.config.width), params


def from_nnx(
    module: Any,
    *,
    layer_states: Sequence[int] = (),
    eos: int | Sequence[int] = (),
    vocab_size: int | None = None,
    max_length: int | None = None,
    init_cache: Callable[[int, int], Any] | None = None,
    dtype: Any = None,
) -> tuple[Model, Params]:
    """Splits an NNX module that meets the model contract into a `Model` and its parameters.

    Args:
      module: an `nnx.Module`, callable as `module(inputs, cache) -> Output` (with `layer_states=` if they are asked
        for). Its hashable `config` has `vocab_size` and may have `max_length`, and it has a static method
        `init_cache(config, batch, capacity)`; the following stand in for what it lacks. One that drafts from a target's
        states may have `taps` in its `config`, and a method `fuse`; one that computes laws at `Inputs.at` alone says
        `picks = True`, one that reads `Inputs.mixture` says `mixes = True` (see `Model`).
      layer_states: layers whose hidden states the output carries.
      eos: tokens that end a sequence.
      vocab_size: V.
      max_length: the longest sequence.
      init_cache: `(batch, capacity) -> cache`.
      dtype: of the cache, for a module whose `init_cache` takes one; its default if not given.

    Returns:
      `(model, params)`; the parameters are a nested dict of arrays, and decoders see pure functions of it, never
      the live module.

    Raises:
      ValueError: if the module says neither in its `config` nor by arguments how large its vocabulary is and what its
        cache is. One that maps tokens to logits, without a cache, is for `jaxdec.model.from_function`.
    """
    config, kind = getattr(module, "config", None), type(module).__name__
    vocab_size = getattr(config, "vocab_size", None) if vocab_size is None else vocab_size
    if init_cache is None and config is not None and hasattr(module, "init_cache"):
        init_cache = NnxCache(
            type(module).init_cache, config, None if dtype is None else np.dtype(dtype)
        )
    missing = {"vocab_size": vocab_size, "init_cache": init_cache}
    lacking = [name for name, value in missing.items() if value is None]
    if lacking:
        raise ValueError(
            f"{kind} has no {' and no '.join(lacking)}: from_nnx takes modules that are called as "
            "module(inputs, cache), with a config that has vocab_size and an init_cache, or with these as arguments; "
            "for a module that maps tokens to logits use jaxdec.model.from_function"
        )
    if max_length is None:
        max_length = getattr(config, "max_length", None)
    forward, params = NnxForward.of(module, layer_states=tuple(layer_states))
    model = Model(
        forward=forward,
        init_cache=init_cache,  # type: ignore[arg-type]
        vocab_size=vocab_size,  # type: ignore[arg-type]
        max_length=max_length,
        eos=eos,  # type: ignore[arg-type]
        taps=tuple(getattr(config, "taps", ())),
        fuse=_Call.of(module, method="fuse")[0] if hasattr(module, "fuse") else None,
        picks=getattr(module, "picks", False),
        mixes=getattr(module, "mixes", False),
    )
    return model, params
