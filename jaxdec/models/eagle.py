"""EAGLE's drafter: one transformer layer that extrapolates a target's features.

A *feature* f_i is the target's last hidden state after token x_i, from which it reads the law of x_{i+1}. The drafter
reads pairs, a feature and the token that followed it, and predicts the next feature:

    (f_0, x_1), ..., (f_i, x_{i+1})  ->  f^_{i+1},  whose logits are the law of x_{i+2}.

It meets the model contract: inputs are the tokens x_{i+1} at their positions, with `Inputs.features`; the output's
hidden states are the predicted features, which drafts are fed with in place of true ones.

Legend: B rows, T new tokens, D width, V vocabulary.
"""

import jax.numpy as jnp
from flax import nnx

from jaxdec.cache import Cache, KVEntries
from jaxdec.model import Inputs, Output
from jaxdec.models.config import TransformerConfig
from jaxdec.models.layers import committed, rows
from jaxdec.models.transformer import Block, Transformer
from pallas_kernels.span_attention import Keys


class Eagle(nnx.Module):
    """The network: `module(inputs, cache) -> Output`, inputs with features.

    The embedding and the output matrix are copies of the target's, trained on with the rest; embeddings are normalised
    before they are joined to features, whose scale is that of a norm.

    Raises:
      ValueError: if the configuration has more than one layer.

    Source: 2401.15077, whose layer lacks the norm before attention.
    """

    init_cache = staticmethod(Transformer.init_cache)
    picks = True

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        if config.layers != 1:
            raise ValueError(f"EAGLE's drafter has 1 layer, got {config.layers}")
        self.config = config
        width = config.width
        # Features pass through at first: the next one is predicted as a change of the last.
        identity = lambda key, shape, dtype: jnp.eye(shape[0], shape[1], dtype=dtype)
        self.embed_tokens = nnx.Embed(config.vocab_size, width, rngs=rngs)
        self.embed_norm = nnx.RMSNorm(width, epsilon=config.norm_epsilon, rngs=rngs)
        self.fc = nnx.Linear(2 * width, width, use_bias=False, kernel_init=identity, rngs=rngs)
        self.layer = Block(config, rngs=rngs)
        self.lm_head = nnx.Linear(width, config.vocab_size, use_bias=False, rngs=rngs)

    def __call__(self, inputs: Inputs, cache: Cache | None = None) -> Output:
        """Predicts the feature, and the law, after each new pair; see `jaxdec.model`."""
        return self.read(inputs, *committed(cache, 0))

    def read(self, inputs: Inputs, *earlier: Keys) -> Output:
        """The same over the keys and values of earlier pairs, from wherever they are."""
        assert inputs.features is not None
        tokens = self.embed_norm(rows(self.embed_tokens, inputs.tokens))
        x = self.fc(jnp.concatenate([inputs.features, tokens], axis=-1))
        x, entry = self.layer(x, inputs, *earlier)
        x = inputs.wanted(x)
        logits = self.lm_head(x).astype(jnp.float32)
        return Output(logits, x, (), KVEntries((entry,), inputs.positions))
