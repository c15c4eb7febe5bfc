"""A Llama-style transformer that meets the model contract.

RMSNorm, rotary positions, grouped-query attention and SwiGLU, with a tied or an untied head. Modules are named as in
Llama checkpoints, and each kernel is the transpose of the checkpoint's weight, so that weights map one to one.
Visibility comes from spans alone: the same network serves as causal, masked, block-diffusion and any-subset model.

Legend: B rows, T new tokens, S cached slots, D width, H query heads, K key-value heads, V vocabulary.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.cache import Cache, KVCache, KVEntries, LayerEntries
from jaxdec.model import Inputs, Output
from pallas_kernels.span_attention import Keys, span_attention


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a `Transformer`; hashable.

    Attributes:
      vocab_size: V.
      width: D, the residual stream.
      layers: blocks.
      heads: query heads.
      kv_heads: key-value heads; divides `heads`.
      head_dim: width of a head, even.
      hidden: inner width of the SwiGLU unit.
      max_length: longest sequence that decoders accept.
      rope_theta: base of the rotary frequencies.
      norm_epsilon: added to the mean square.
      tied: whether the head is the embedding's transpose.
      window: if set, a token sees only keys fewer than `window` positions away (beside its spans).
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    max_length: int = 2048
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5
    tied: bool = True
    window: int | None = None

    def __post_init__(self):
        sizes = ("vocab_size", "width", "layers", "heads", "kv_heads", "head_dim", "hidden")
        for name in (*sizes, "max_length", *(["window"] if self.window is not None else [])):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} must divide heads {self.heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for rotary positions, got {self.head_dim}")


def rotary(x: jax.Array, positions: jax.Array, theta: float) -> jax.Array:
    """Rotates pairs `(x_i, x_{i + d/2})` of each head by `position * theta^(-2i/d)`.

    Args:
      x: `[B, heads, T, d]`.
      positions: int32 `[B, T]`.
      theta: base of the frequencies.
    """
    half = x.shape[-1] // 2
    frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[:, None, :, None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = x[..., :half], x[..., half:]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def committed(cache: Cache | None, layer: int) -> tuple[Keys, ...]:
    """What one layer's attention reads of a cache; nothing without one."""
    return () if cache is None else (cache.read(layer),)


def _linear(inputs: int, outputs: int, rngs: nnx.Rngs, scale: float = 1.0) -> nnx.Linear:
    init = nnx.initializers.normal(scale / math.sqrt(inputs))
    return nnx.Linear(inputs, outputs, use_bias=False, kernel_init=init, rngs=rngs)


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        inner = config.heads * config.head_dim
        scale = 1 / math.sqrt(2 * config.layers)
        self.config = config
        self.q_proj = _linear(config.width, inner, rngs)
        self.k_proj = _linear(config.width, config.kv_heads * config.head_dim, rngs)
        self.v_proj = _linear(config.width, config.kv_heads * config.head_dim, rngs)
        self.o_proj = _linear(inner, config.width, rngs, scale)

    def __call__(self, x: jax.Array, inputs: Inputs, *earlier: Keys):
        """Maps `x [B, T, D]`, the states of new tokens, to `(output [B, T, D], entries)`."""
        config, positions = self.config, inputs.positions

        def heads(y):
            return y.reshape(*y.shape[:2], -1, config.head_dim).swapaxes(1, 2)

        queries = rotary(heads(self.q_proj(x)), positions, config.rope_theta)
        keys = rotary(heads(self.k_proj(x)), positions, config.rope_theta)
        entries = LayerEntries(keys, heads(self.v_proj(x)))
        new = Keys(entries.keys, entries.values, inputs.key_spans, positions)
        mixed, _ = span_attention(
            queries, inputs.query_spans, *earlier, new, positions=positions, window=config.window
        )
        mixed = mixed.swapaxes(1, 2).reshape(*x.shape[:2], -1)
        return self.o_proj(mixed), entries


class MLP(nnx.Module):
    """SwiGLU: `down(silu(gate(x)) * up(x))`."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        self.gate_proj = _linear(config.width, config.hidden, rngs)
        self.up_proj = _linear(config.width, config.hidden, rngs)
        self.down_proj = _linear(
            config.hidden, config.width, rngs, 1 / math.sqrt(2 * config.layers)
        )

    def __call__(self, x):
        """Maps `[B, T, D]` to `[B, T, D]`."""
        return self.down_proj(nnx.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nnx.Module):
    """One residual layer."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        norm = lambda: nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        self.input_layernorm = norm()
        self.self_attn = Attention(config, rngs=rngs)
        self.post_attention_layernorm = norm()
        self.mlp = MLP(config, rngs=rngs)

    def __call__(self, x: jax.Array, inputs: Inputs, *earlier: Keys):
        """Maps `x [B, T, D]` to `(x, entries)`."""
        mixed, entries = self.self_attn(self.input_layernorm(x), inputs, *earlier)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), entries


class Transformer(nnx.Module):
    """The network: `module(inputs, cache) -> Output`.

    Raises:
      ValueError: from the config, if heads or widths do not fit together.
    """

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        self.config = config
        init = nnx.initializers.normal(0.02)
        self.embed_tokens = nnx.Embed(
            config.vocab_size, config.width, embedding_init=init, rngs=rngs
        )
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        if not config.tied:
            self.lm_head = _linear(config.width, config.vocab_size, rngs)

    @staticmethod
    def init_cache(config: TransformerConfig, batch: int, capacity: int) -> KVCache:
        """An empty cache for `batch` rows of `capacity` slots."""
        return KVCache.create(
            layers=config.layers,
            batch=batch,
            capacity=capacity,
            heads=config.kv_heads,
            head_dim=config.head_dim,
        )

    def __call__(
        self,
        inputs: Inputs,
        cache: Cache | None = None,
        layer_states: tuple[int, ...] = (),
        layers: int | None = None,
    ) -> Output:
        """Scores new tokens; see `jaxdec.model`.

        Args:
          inputs: T new tokens (or embeddings `[B, T, D]`).
          cache: committed tokens, only read; None scores the new tokens on their own.
          layer_states: layers (0 is the embedding) whose hidden states are returned.
          layers: how many blocks run before the final norm and the head; all of them for None.
        """
        x = inputs.tokens
        if jnp.issubdtype(x.dtype, jnp.integer):
            x = self.embed_tokens(x)
        entries, states = [], [x]
        for i, block in enumerate(list(self.layers)[:layers]):
            x, entry = block(x, inputs, *committed(cache, i))
            entries.append(entry)
            states.append(x)
        hidden = self.norm(x)
        logits = self.embed_tokens.attend(hidden) if self.config.tied else self.lm_head(hidden)
        return Output(
            logits=logits.astype(jnp.float32),
            hidden=hidden,
            layer_states=tuple(states[i] for i in layer_states),
            entries=KVEntries(tuple(entries), inputs.positions),
        )
