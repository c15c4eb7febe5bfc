"""The network of MDLM and BD3-LM: a transformer whose norms are modulated by an embedding of the noise level.

Without time conditioning the level is always 0, so that the modulation is a constant of the parameters. Each
kernel is the transpose of the checkpoint's weight.

Legend: B rows, T new tokens, D width, C width of the conditioning, V vocabulary.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.cache import Cache, KVEntries, LayerEntries
from jaxdec.model import Inputs, Output
from jaxdec.models.layers import Rotary, committed, empty_cache, linear, rows
from pallas_kernels.span_attention import Keys, span_attention

LEVEL_WIDTH = 256
"""Width of the sinusoidal embedding of a noise level."""
NORM_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class MDLMConfig:
    """Sizes of an `MDLM`; hashable.

    Attributes:
      vocab_size: V.
      width: D, the residual stream.
      layers: blocks.
      heads: attention heads, which divide D into even widths.
      conditioning: C; 0 for a network without modulation.
      mask_token: what stands at unknown positions; its logit is minus infinity.
      max_length: longest sequence that decoders accept.

    Raises:
      ValueError: for sizes below 1 or that do not fit together, or a mask token outside of the vocabulary.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    conditioning: int
    mask_token: int
    max_length: int = 1024

    def __post_init__(self):
        for name in ("vocab_size", "width", "layers", "heads", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.conditioning < 0:
            raise ValueError(f"conditioning must be at least 0, got {self.conditioning}")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must be a multiple of 2 x {self.heads} heads, for rotary positions"
            )
        if not 0 <= self.mask_token < self.vocab_size:
            raise ValueError(
                f"mask_token {self.mask_token} is outside the vocabulary of {self.vocab_size}"
            )

    @property
    def kv_heads(self) -> int:
        """As many as there are of queries."""
        return self.heads

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.width // self.heads


class _Level(nnx.Module):
    """`silu(outer(silu(inner(e))))`, e the sinusoidal embedding of noise level 0: ones, then zeros."""

    def __init__(self, config: MDLMConfig, *, rngs: nnx.Rngs):
        wide = config.conditioning
        self.inner = linear(LEVEL_WIDTH, wide, rngs, bias=True)
        self.outer = linear(wide, wide, rngs, bias=True)

    def __call__(self) -> jax.Array:
        """The conditioning `[C]`."""
        half = LEVEL_WIDTH // 2
        level = jnp.concatenate([jnp.ones(half, jnp.float32), jnp.zeros(half, jnp.float32)])
        return nnx.silu(self.outer(nnx.silu(self.inner(level))))


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=NORM_EPSILON, use_bias=False, rngs=rngs)


class _Block(nnx.Module):
    """One residual layer: `x + g attention(m(norm(x)))`, then `x + g mlp(m(norm(x)))`, `m(y) = y (1 + s) + b`."""

    def __init__(self, config: MDLMConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.config = config
        self.norm1, self.norm2 = _norm(width, rngs), _norm(width, rngs)
        self.attn_qkv = linear(width, 3 * width, rngs)
        self.attn_out = linear(width, width, rngs)
        self.mlp_up = linear(width, 4 * width, rngs, bias=True)
        self.mlp_down = linear(4 * width, width, rngs, bias=True)
        if config.conditioning:
            self.adaLN_modulation = linear(config.conditioning, 6 * width, rngs, bias=True)

    def __call__(self, x: jax.Array, level: jax.Array | None, inputs: Inputs, *earlier: Keys):
        """Maps `x [B, T, D]` to `(x, entries)`."""
        parts: Sequence[jax.Array | float] = (0.0, 0.0, 1.0) * 2  # shift, scale and gate of each
        if level is not None:
            parts = jnp.split(self.adaLN_modulation(level), 6)
        shifts, scales, gates = parts[0::3], parts[1::3], parts[2::3]
        mixed, entries = self._attend(self.norm1(x) * (1 + scales[0]) + shifts[0], inputs, *earlier)
        x = x + gates[0] * mixed
        y = self.mlp_up(self.norm2(x) * (1 + scales[1]) + shifts[1])
        return x + gates[1] * self.mlp_down(nnx.gelu(y, approximate=True)), entries

    def _attend(self, x: jax.Array, inputs: Inputs, *earlier: Keys):
        """Attention output `[B, T, D]` and entries."""
        heads = lambda y: y.reshape(*y.shape[:2], self.config.heads, -1).swapaxes(1, 2)
        queries, keys, values = map(heads, jnp.split(self.attn_qkv(x), 3, axis=-1))
        turn = Rotary()
        queries, keys = turn(queries, inputs.positions), turn(keys, inputs.positions)
        new = Keys(keys, values, inputs.key_spans, inputs.positions)
        mixed, _ = span_attention(
            queries, inputs.query_spans, *earlier, new, positions=inputs.positions
        )
        mixed = mixed.swapaxes(1, 2).reshape(x.shape)
        return self.attn_out(mixed), LayerEntries(keys, values)


class _Head(nnx.Module):
    """Logits `W m(norm(x)) + b`."""

    def __init__(self, config: MDLMConfig, *, rngs: nnx.Rngs):
        self.norm_final = _norm(config.width, rngs)
        self.linear = linear(config.width, config.vocab_size, rngs, bias=True)
        if config.conditioning:
            self.adaLN_modulation = linear(config.conditioning, 2 * config.width, rngs, bias=True)

    def __call__(self, x: jax.Array, level: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The states that logits are read from `[B, T, D]`, and logits, float32 `[B, T, V]`."""
        hidden = self.norm_final(x)
        if level is not None:
            shift, scale = jnp.split(self.adaLN_modulation(level), 2)
            hidden = hidden * (1 + scale) + shift
        logits = jnp.dot(hidden, self.linear.kernel[...], preferred_element_type=jnp.float32)
        assert self.linear.bias is not None
        return hidden, logits + self.linear.bias[...].astype(jnp.float32)


class MDLM(nnx.Module):
    """The network: `module(inputs, cache) -> Output`, with laws at the place of each row.

    A block-causal BD3-LM is the same network with other spans. The mask's logit is minus infinity.

    Source: MDLM 2406.07524, BD3-LM 2503.09573.
    """

    def __init__(self, config: MDLMConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.vocab_embed = nnx.Embed(config.vocab_size, config.width, rngs=rngs)
        if config.conditioning:
            self.sigma_map = _Level(config, rngs=rngs)
        self.blocks = nnx.List([_Block(config, rngs=rngs) for _ in range(config.layers)])
        self.output_layer = _Head(config, rngs=rngs)

    init_cache = staticmethod(empty_cache)

    def __call__(
        self,
        inputs: Inputs,
        cache: Cache | None = None,
        layer_states: tuple[int, ...] = (),
    ) -> Output:
        """Scores new tokens; see `jaxdec.model`.

        Args:
          inputs: T new tokens (or embeddings `[B, T, D]`).
          cache: committed tokens, only read; None scores the new tokens on their own.
          layer_states: layers (0 is the embedding) whose hidden states are returned.
        """
        x = inputs.tokens
        if jnp.issubdtype(x.dtype, jnp.integer):
            x = rows(self.vocab_embed, x)
        level = self.sigma_map().astype(x.dtype) if self.config.conditioning else None
        entries, states = [], [x]
        for i, block in enumerate(self.blocks):
            x, entry = block(x, level, inputs, *committed(cache, i))
            entries.append(entry)
            states.append(x)
        hidden, logits = self.output_layer(x, level)
        real = jnp.arange(self.config.vocab_size) != self.config.mask_token
        return Output(
            logits=jnp.where(real, logits, -jnp.inf),
            hidden=hidden,
            layer_states=tuple(states[i] for i in layer_states),
            entries=KVEntries(tuple(entries), inputs.positions),
        )
