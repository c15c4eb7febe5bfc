"""The model contract: one forward for every algorithm.

    forward(params, inputs, cache) -> Output

scores T new tokens at given positions; each may attend to some committed tokens of a cache and to some of the
other new tokens, as its spans say (`jaxdec.visibility`). The forward only reads the cache. What was computed for
the new tokens comes back as `entries`, and `cache.commit` or `cache.write` stores those that are kept: a draft that
is not accepted leaves no trace, so nothing is ever rolled back.

Legend: B rows, T new tokens, V vocabulary, D width.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec import visibility

Params = Any
Entries = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Queries:
    """What an any-subset model is asked: the law of a token at some position, given what a span sees.

    Attributes:
      positions: int32 `[B, Q]`, the places of the tokens in question.
      looks: int32 `[B, Q, 2]`, the span that each query sees with; nobody sees a query.
      size: int32 `[B]`, positions of the sequence in all, for models that read unknown tokens as masks.
    """

    positions: jax.Array
    looks: jax.Array
    size: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inputs:
    """New tokens to score.

    Attributes:
      tokens: int32 `[B, T]`, or embeddings `[B, T, D]` float for parts that work on latents.
      positions: int32 `[B, T]`, places in the sequence (for the position code, not for visibility).
      looks: int32 `[B, T, 2]`, the span of each token as a query.
      lives: int32 `[B, T, 2]`, the span over which each token is seen by the other new tokens.
      queries: what is asked instead of the token after each new token; None for causal models.
      features: `[B, T, D]`, a target's hidden states that go with the tokens, for drafters that read those; else None.
    """

    tokens: jax.Array
    positions: jax.Array
    looks: jax.Array
    lives: jax.Array
    queries: Queries | None = None
    features: jax.Array | None = None

    @classmethod
    def causal(
        cls,
        tokens: jax.Array,
        start: jax.Array | int = 0,
        valid: jax.Array | None = None,
        features: jax.Array | None = None,
    ) -> "Inputs":
        """Consecutive tokens of a causal sequence.

        Args:
          tokens: int32 `[B, T]`.
          start: position of the first token, int32 `[B]` or one integer.
          valid: bool `[B, T]`; tokens that are padding are seen by nobody.
          features: `[B, T, D]` or None.
        """
        positions = jnp.broadcast_to(
            jnp.asarray(start)[..., None] + jnp.arange(tokens.shape[1]), tokens.shape[:2]
        ).astype(jnp.int32)
        spans = visibility.causal(positions)
        if valid is not None:
            spans = spans.where(valid)
        return cls(tokens, positions, spans.looks, spans.lives, features=features)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Output:
    """What a forward returns.

    Attributes:
      logits: float32 `[B, T, V]`; row t is the law of the token that follows (or fills) row t of the inputs. If the
        inputs have queries, `[B, Q, V]`: the answers.
      hidden: `[B, T, D]`, the state that the logits are read from.
      taps: hidden states `[B, T, D]` after the layers that the model was asked for.
      entries: a pytree with leading axes that the model's cache understands.
    """

    logits: jax.Array
    hidden: jax.Array
    taps: tuple[jax.Array, ...]
    entries: Entries


@runtime_checkable
class Cache(Protocol):
    """Committed tokens of B rows: a frozen pytree of fixed capacity with a length a row."""

    length: jax.Array

    @property
    def capacity(self) -> int:
        """Slots a row."""
        ...

    def commit(
        self, entries: Entries, index: jax.Array, count: jax.Array, lives: jax.Array
    ) -> "Cache":
        """Appends `entries` at `index [B, A]` of each row, the first `count [B]` of them."""
        ...


@dataclasses.dataclass(frozen=True)
class Model:
    """A forward and the cache that goes with it: all that a decoder knows of a network.

    Both functions are static parts of a compiled program, so a `Model` compares by value and the same function
    objects should be passed each time.

    Attributes:
      forward: `(params, inputs, cache) -> Output`; `cache=None` scores the new tokens on their own.
      init_cache: `(batch, capacity) -> cache` with every slot empty.
      vocab_size: V.
      max_length: the longest sequence that the position code supports; None for no limit.
      eos: tokens that end a sequence unless a request says otherwise.
      any_subset: whether `forward` answers `Inputs.queries`.
      causal: whether it predicts the token after each new token, where there are no queries.
      mask_token: what stands at the unknown positions of a canvas; a model that has one and is not of any subset
        predicts the token at the place of each row. None for other models.
    """

    forward: Callable[..., Output]
    init_cache: Callable[[int, int], Any]
    vocab_size: int
    max_length: int | None = None
    eos: tuple[int, ...] = ()
    any_subset: bool = False
    causal: bool = True
    mask_token: int | None = None

    @property
    def canvas(self) -> bool:
        """Whether the forward predicts the token at the place of each row."""
        return self.mask_token is not None and not self.any_subset


@dataclasses.dataclass(frozen=True)
class _Merged:
    """A forward over the state of an NNX module; compares by the module's graph definition."""

    graphdef: nnx.GraphDef
    taps: tuple[int, ...] = ()

    def __call__(self, params: Params, inputs: Inputs, cache: Cache | None = None) -> Output:
        module = nnx.merge(self.graphdef, params)
        return module(inputs, cache, taps=self.taps) if self.taps else module(inputs, cache)


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


@dataclasses.dataclass(frozen=True)
class Heads:
    """Draft heads on a target's hidden states, as drafters know them; compares by value.

    Attributes:
      law: `(params, hidden [..., D], path int32 [..., d]) -> logits [..., V]`: the law of the token after a path of
        d = 1, ..., K tokens, the first of which is the one whose law the target read from `hidden`.
      heads: K.
      width: D.
      vocab_size: V.
    """

    law: Callable[..., jax.Array]
    heads: int
    width: int
    vocab_size: int


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
    module: Any, *, taps: Sequence[int] = (), eos: Sequence[int] = ()
) -> tuple[Model, Params]:
    """Splits an NNX module into a `Model` and its parameters.

    Args:
      module: an `nnx.Module`, callable as `module(inputs, cache)` (with `taps=` if taps are asked for), with a
        hashable `config` that has `vocab_size`, and a static method `init_cache(config, batch, capacity)`.
      taps: layers whose hidden states the output carries.
      eos: tokens that end a sequence.

    Returns:
      `(model, params)`; the parameters are a nested dict of arrays, and decoders see pure functions of it, never
      the live module.
    """
    graphdef, state = nnx.split(module)
    params = nnx.to_pure_dict(state)
    config = module.config
    model = Model(
        forward=_Merged(graphdef, tuple(taps)),
        init_cache=_InitCache(type(module).init_cache, config),
        vocab_size=config.vocab_size,
        max_length=getattr(config, "max_length", None),
        eos=tuple(eos),
    )
    return model, params
