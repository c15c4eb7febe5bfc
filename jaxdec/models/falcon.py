"""Falcon's drafter: a network that predicts a target's features k places on, k of them in one forward.

Pairs are those of `jaxdec.models.eagle`, (f_i, x_{i+1}). That of slot i gives the feature k places on:

    (f_0, x_1), ..., (f_i, x_{i+1})  ->  f^_{i+k},  whose logits are the law of x_{i+k+1}

so that the last k slots give the next k laws. Slots of one block of k see one another and all slots before.

Legend: B rows, T new tokens, D width, V vocabulary, k slots of a block.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.cache import KVEntries, RecurrentEntries, SummedCache, SummedEntries
from jaxdec.model import Inputs, Output
from jaxdec.models.config import TransformerConfig
from jaxdec.models.layers import LSTM, committed, empty_cache, rows
from jaxdec.models.transformer import Block
from pallas_kernels.span_attention import Keys


@dataclasses.dataclass(frozen=True)
class FalconConfig(TransformerConfig):
    """Sizes of `Falcon`; hashable.

    Attributes:
      block: k, features that one forward predicts.
      memory: width of the states that sum pairs up.
      memory_layers: layers of these.

    Raises:
      ValueError: for other than 1 layer of attention, or sizes below 1.
    """

    block: int = 2
    memory: int = 128
    memory_layers: int = 2

    def __post_init__(self):
        super().__post_init__()
        if self.layers != 1:
            raise ValueError(f"Falcon's drafter has 1 layer of attention, got {self.layers}")
        for name in ("block", "memory", "memory_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def state(self) -> int:
        """Numbers of a state: outputs and cells of all layers."""
        return 2 * self.memory_layers * self.memory


class Falcon(nnx.Module):
    """The network: `module(inputs, cache) -> Output`, inputs with features.

        z_i = [f_i; norm(E(x_{i+1}))]
        x_i = f_i + P LSTM(z_0, ..., z_i)
        f^_{i+k} = layer(x)_i,   which sees its own block whole

    Which slots form a block, the spans of the inputs say. `Inputs.before` says which pair each pair follows; where it
    is None they stand in order. The embedding and the output matrix are copies of the target's, trained on with the
    rest.

    Source: 2412.12639; there the target's embedding and output matrix stay as they are, and the sum of pairs replaces
    the feature in the residual stream.
    """

    picks = True

    def __init__(self, config: FalconConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = config.width
        self.embed_tokens = nnx.Embed(config.vocab_size, width, rngs=rngs)
        self.embed_norm = nnx.RMSNorm(width, epsilon=config.norm_epsilon, rngs=rngs)
        self.memory = LSTM(2 * width, config.memory, config.memory_layers, rngs=rngs)
        # Features pass through at first: the next one is predicted as a change of the last.
        zeros = nnx.initializers.zeros
        self.recall = nnx.Linear(config.memory, width, use_bias=False, kernel_init=zeros, rngs=rngs)
        self.layer = Block(config, rngs=rngs)
        self.lm_head = nnx.Linear(width, config.vocab_size, use_bias=False, rngs=rngs)

    @staticmethod
    def init_cache(
        config: FalconConfig,
        batch: int,
        capacity: int,
        dtype: jax.typing.DTypeLike = jnp.float32,
    ) -> SummedCache:
        """Keys and values of `capacity` pairs, and the sum of those that are committed."""
        start = jnp.zeros((batch, config.state), jnp.float32)
        return SummedCache.create(empty_cache(config, batch, capacity, dtype), (start,))

    def __call__(self, inputs: Inputs, cache: Any = None) -> Output:
        """Predicts features and laws after each new pair; see `jaxdec.model`."""
        assert inputs.features is not None
        pairs = self.pairs(inputs)
        start = jnp.zeros((len(pairs), self.config.state), jnp.float32)
        if cache is not None:
            start = cache.states.read(0)
        if inputs.before is None:
            states = self.memory.sequence(pairs, start)
        else:
            states = self.memory.paths(pairs, inputs.before, start)
        output = self.read(inputs, states, *committed(cache, 0))
        entries = SummedEntries(output.entries, RecurrentEntries((states,)))
        return dataclasses.replace(output, entries=entries)

    def pairs(self, inputs: Inputs) -> jax.Array:
        """What is summed up, `[B, T, 2 D]`."""
        features = inputs.features
        assert features is not None
        tokens = self.embed_norm(rows(self.embed_tokens, inputs.tokens))
        return jnp.concatenate([features, tokens.astype(features.dtype)], axis=-1)

    def read(self, inputs: Inputs, states: jax.Array, *earlier: Keys) -> Output:
        """Features and laws, given the states `[B, T, ...]` after each pair; entries are those of attention."""
        features = inputs.features
        assert features is not None
        x = features + self.recall(self.memory.output(states).astype(features.dtype))
        x, entry = self.layer(x, inputs, *earlier)
        x = inputs.wanted(x)
        logits = self.lm_head(x).astype(jnp.float32)
        return Output(logits, x, (), KVEntries((entry,), inputs.positions))
