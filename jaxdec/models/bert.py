"""BERT: a masked language model whose positions all see one another. It meets the model contract.

A `Transformer` with learned positions and norms after each residual sum, which begins and ends otherwise:

    x_0 = norm(token + position + type),   logits = E norm(act(W x_L + b)) + c

E the embedding of the tokens. As it stands it fills a canvas; `any_subset.masked_rows` answers queries with it.

Legend: B rows, T new tokens, D width, V vocabulary.
"""

import dataclasses

import jax
from flax import nnx

from jaxdec.model import Inputs
from jaxdec.models.config import TransformerConfig
from jaxdec.models.layers import ACTIVATIONS, Norm, linear
from jaxdec.models.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class BertConfig(TransformerConfig):
    """Sizes of a `Bert`; the forms of `TransformerConfig` that make one are its defaults.

    Attributes:
      token_types: rows of the table of token types; all tokens are of the first.
    """

    max_length: int = 512
    norm_epsilon: float = 1e-12
    positions: str = "learned"
    attention_bias: bool = True
    output_bias: bool = True
    mlp_bias: bool = True
    head_bias: bool = True
    norm: str = "layer"
    norm_bias: bool = True
    placement: str = "post"
    activation: str = "gelu"
    gated: bool = False
    token_types: int = 2

    def __post_init__(self):
        super().__post_init__()
        if self.token_types < 1:
            raise ValueError(f"token_types must be at least 1, got {self.token_types}")


class Bert(Transformer):
    """The network: `module(inputs, cache) -> Output`, logits of the token at each place.

    Raises:
      ValueError: from the config, for sizes that are none.

    Source: 1810.04805.
    """

    config: BertConfig

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        init = nnx.initializers.normal(0.02)
        self.embed_types = nnx.Embed(
            config.token_types, config.width, embedding_init=init, rngs=rngs
        )
        self.embed_norm = Norm(config, rngs=rngs)
        self.transform = linear(config.width, config.width, rngs, bias=True)
        self.transform_norm = Norm(config, rngs=rngs)

    def embed(self, inputs: Inputs) -> jax.Array:
        """The residual stream before the first block, `[B, T, D]`."""
        return self.embed_norm(super().embed(inputs) + self.embed_types.embedding[...][0])

    def head(self, hidden: jax.Array) -> jax.Array:
        """Logits, float32 `[B, T, V]`."""
        act = ACTIVATIONS[self.config.activation]
        return super().head(self.transform_norm(act(self.transform(hidden))))
