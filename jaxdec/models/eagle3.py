"""EAGLE-3's drafter: one layer over tokens and the fused states of three of a target's layers.

Pairs are those of `jaxdec.models.eagle`, (f_i, x_{i+1}); the feature is made of several layers, and what is predicted
is not the target's feature but whatever makes the next drafts good:

    g_i = F [h^low_i; h^mid_i; h^high_i]
    a_{i+1} = layer([norm(E(x_{i+1})); norm(g_i)]),   whose residual stream starts from g_i
    q(x_{i+2}) = softmax(U norm(a_{i+1})),   over a reduced vocabulary

and a_{i+1}, not normed, stands in for g_{i+1} where that is not known yet.

Legend: B rows, T new tokens, D width, W width of the target, V vocabulary, K tokens of the reduced vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.cache import Cache, KVEntries
from jaxdec.model import Inputs, Output
from jaxdec.models.config import TransformerConfig
from jaxdec.models.layers import MLP, Attention, Norm, committed, linear
from jaxdec.models.transformer import Transformer
from pallas_kernels.span_attention import Keys


@dataclasses.dataclass(frozen=True)
class Eagle3Config(TransformerConfig):
    """Sizes of `Eagle3`; hashable. `vocab_size` is the target's.

    Attributes:
      taps: layers of the target whose states are fused, 0 for the embedding.
      target_width: W; D if not given.
      draft_vocab_size: K, tokens that are ever drafted; None for all.

    Raises:
      ValueError: for other than 1 layer, no taps, or sizes out of range.
    """

    taps: tuple[int, ...] = (2, 4, 5)
    target_width: int | None = None
    draft_vocab_size: int | None = None

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "taps", tuple(self.taps))
        if self.layers != 1:
            raise ValueError(f"EAGLE-3's drafter has 1 layer, got {self.layers}")
        if not self.taps or min(self.taps) < 0:
            raise ValueError(f"taps must name layers from 0 on, got {list(self.taps)}")
        if self.target_width is not None and self.target_width < 1:
            raise ValueError(f"target_width must be at least 1, got {self.target_width}")
        if not 1 <= self.drafted <= self.vocab_size:
            raise ValueError(
                f"draft_vocab_size must be 1 to vocab_size {self.vocab_size}, got {self.drafted}"
            )

    @property
    def reads(self) -> int:
        """W."""
        return self.width if self.target_width is None else self.target_width

    @property
    def drafted(self) -> int:
        """K."""
        return self.vocab_size if self.draft_vocab_size is None else self.draft_vocab_size


class PairLayer(nnx.Module):
    """The one layer: attention reads token and feature side by side, the residual stream is the feature."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        self.hidden_norm = Norm(config, rngs=rngs)
        self.input_layernorm = Norm(config, rngs=rngs)
        self.self_attn = Attention(config, inputs=2 * config.width, rngs=rngs)
        self.post_attention_layernorm = Norm(config, rngs=rngs)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(self, tokens: jax.Array, x: jax.Array, inputs: Inputs, *earlier: Keys):
        """Maps embeddings and features `[B, T, D]` to `(x, entries)`."""
        both = jnp.concatenate([self.input_layernorm(tokens), self.hidden_norm(x)], axis=-1)
        mixed, entries = self.self_attn(both, inputs, *earlier)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), entries


class Eagle3(nnx.Module):
    """The network: `module(inputs, cache) -> Output`, inputs with features; and `fuse`, which makes them of states.

    Tokens outside of the reduced vocabulary have logits of -inf; token k of it is token `k + d2t[k]` of the target's.

    Source: 2503.01840.
    """

    init_cache = staticmethod(Transformer.init_cache)
    picks = True

    def __init__(self, config: Eagle3Config, *, rngs: nnx.Rngs):
        self.config = config
        self.embed_tokens = nnx.Embed(config.vocab_size, config.width, rngs=rngs)
        self.fc = linear(len(config.taps) * config.reads, config.width, rngs)
        self.midlayer = PairLayer(config, rngs=rngs)
        self.norm = Norm(config, rngs=rngs)
        self.lm_head = linear(config.width, config.drafted, rngs)
        if config.draft_vocab_size is not None:
            self.d2t = nnx.Param(jnp.zeros((config.drafted,), jnp.int32))

    def fuse(self, states: jax.Array) -> jax.Array:
        """Features `[B, T, D]` of the tapped states `[B, T, taps x W]`, side by side."""
        return self.fc(states)

    def __call__(self, inputs: Inputs, cache: Cache | None = None) -> Output:
        """What stands in for the next feature, and the law, after each new pair; see `jaxdec.model`."""
        assert inputs.features is not None
        tokens = self.embed_tokens(inputs.tokens)
        x, entry = self.midlayer(tokens, inputs.features, inputs, *committed(cache, 0))
        x = inputs.wanted(x)
        return Output(self.logits(x), x, (), KVEntries((entry,), inputs.positions))

    def logits(self, x: jax.Array) -> jax.Array:
        """Logits, float32 `[B, T, V]`, of states `[B, T, D]`."""
        kernel = self.lm_head.kernel[...]
        drafted = jnp.dot(self.norm(x), kernel, preferred_element_type=jnp.float32)
        if self.config.draft_vocab_size is None:
            return drafted
        tokens = jnp.arange(self.config.drafted, dtype=jnp.int32) + self.d2t[...].astype(jnp.int32)
        whole = jnp.full((*drafted.shape[:-1], self.config.vocab_size), -jnp.inf, jnp.float32)
        return whole.at[..., tokens].set(drafted, indices_are_sorted=True, unique_indices=True)
