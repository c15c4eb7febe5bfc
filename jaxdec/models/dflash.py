"""DFlash's drafter: a block of masks filled in one forward, over keys and values made of a target's states.

    c_j = norm(F [h^1_j; ...; h^m_j])   for each token that the target has scored

Each layer makes keys and values of c, the same in all layers and normed once, and of the rows of the block: the pending
token, then masks. A row sees all of c and the whole block, and its logits are the law of the token at its own place.
So the cache holds keys and values of c alone, and is never read but through them.

Legend: B rows, T new tokens, D width, V vocabulary.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.cache import Cache, KVEntries
from jaxdec.model import Inputs, Output
from jaxdec.models.config import TransformerConfig
from jaxdec.models.layers import Norm, linear
from jaxdec.models.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class DFlashConfig(TransformerConfig):
    """Sizes of `DFlash`; hashable. Width, vocabulary and the forms of embedding and head are the target's.

    Attributes:
      taps: layers of the target whose states are fused, 0 for the embedding.
      mask_token: what stands at the places to be drafted.
      block: rows of a block, the pending token among them.

    Raises:
      ValueError: for no taps, or sizes out of range.
    """

    taps: tuple[int, ...] = (2,)
    mask_token: int = 0
    block: int = 16

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "taps", tuple(self.taps))
        if not self.taps or min(self.taps) < 0:
            raise ValueError(f"taps must name layers from 0 on, got {list(self.taps)}")
        if not 0 <= self.mask_token < self.vocab_size:
            raise ValueError(
                f"mask_token {self.mask_token} is outside the vocabulary of {self.vocab_size}"
            )
        if self.block < 2:
            raise ValueError(f"block must be at least 2, got {self.block}")


class DFlash(Transformer):
    """The network: `module(inputs, cache) -> Output`; and `fuse`, which makes features of a target's states.

    Inputs with features are context: entries alone are computed of them, and there are no logits, `[B, 0, V]`. Inputs
    without are rows of a block, as those of any transformer that fills masks.

    Source: 2602.06036.
    """

    def __init__(self, config: DFlashConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.fc = linear(len(config.taps) * config.width, config.width, rngs)
        self.hidden_norm = Norm(config, rngs=rngs)

    def fuse(self, states: jax.Array) -> jax.Array:
        """Features c, `[B, T, D]`, of the tapped states `[B, T, taps x D]`, side by side."""
        return self.hidden_norm(self.fc(states))

    def __call__(
        self,
        inputs: Inputs,
        cache: Cache | None = None,
        layer_states: tuple[int, ...] = (),
        layers: int | None = None,
        runs: Callable[[int, jax.Array], jax.Array] | None = None,
    ) -> Output:
        """Scores rows of a block, or makes entries of context; see `Transformer`."""
        if inputs.features is None:
            return super().__call__(inputs, cache, layer_states, layers, runs)
        context, positions = inputs.features, inputs.positions
        blocks = list(self.layers)[:layers]
        entries = tuple(block.self_attn.entries(context, positions) for block in blocks)
        logits = jnp.zeros((context.shape[0], 0, self.config.vocab_size), jnp.float32)
        return Output(logits, context, (), KVEntries(entries, positions))
