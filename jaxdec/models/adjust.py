"""The network of ADJUST: one layer over the states of a canvas model's forward and the tokens that are known by now.

It meets the model contract as EAGLE's drafter does: `Inputs.features` are states, the output's hidden states are what a
forward with these tokens would have given, and logits are read from them with the target's output matrix.

Legend: B rows, W positions, D width, V vocabulary.
"""

import jax.numpy as jnp
from flax import nnx

from jaxdec.cache import Cache, KVEntries
from jaxdec.model import Inputs, Output
from jaxdec.models.config import TransformerConfig
from jaxdec.models.layers import committed, rows
from jaxdec.models.transformer import Block, Transformer


class Adjust(nnx.Module):
    """The network: `module(inputs, cache) -> Output`, inputs with features.

        y = layer(W [norm(e(x)); norm(h)]),   h' = h + C norm(y),   logits = head(h')

    with C of zeros at first, so that an untrained network changes nothing. The embedding and the output matrix are the
    target's; training leaves them alone.

    Raises:
      ValueError: if the configuration has more than one layer.

    Source: 2509.22738, where C is the scale of the norm, so that every state changes by as much. A position that the
    new tokens say nothing about has to stay as it is, and a matrix can see to that.
    """

    init_cache = staticmethod(Transformer.init_cache)
    picks = True

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        if config.layers != 1:
            raise ValueError(f"the network of ADJUST has 1 layer, got {config.layers}")
        self.config = config
        width = config.width
        norm = lambda: nnx.RMSNorm(width, epsilon=config.norm_epsilon, rngs=rngs)
        self.embed_tokens = nnx.Embed(config.vocab_size, width, rngs=rngs)
        self.embed_norm, self.hidden_norm = norm(), norm()
        self.fc = nnx.Linear(2 * width, width, use_bias=False, rngs=rngs)
        self.layer = Block(config, rngs=rngs)
        self.change_norm = norm()
        self.change = nnx.Linear(
            width, width, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs
        )
        self.lm_head = nnx.Linear(width, config.vocab_size, use_bias=False, rngs=rngs)

    def __call__(self, inputs: Inputs, cache: Cache | None = None) -> Output:
        """The states and laws of a group once some of its tokens are known; see `jaxdec.model`."""
        assert inputs.features is not None
        tokens = self.embed_norm(rows(self.embed_tokens, inputs.tokens))
        joined = jnp.concatenate([tokens, self.hidden_norm(inputs.features)], axis=-1)
        x, entry = self.layer(self.fc(joined), inputs, *committed(cache, 0))
        x = inputs.wanted(inputs.features + self.change(self.change_norm(x)))
        logits = self.lm_head(x).astype(jnp.float32)
        return Output(logits, x, (), KVEntries((entry,), inputs.positions))
