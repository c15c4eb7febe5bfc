"""Grouped-query attention over spans.

Legend: B rows, T new tokens, D width.
"""

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.cache import Cache, KVCache, LayerEntries
from jaxdec.model import Inputs
from jaxdec.models.layers.linear import linear
from jaxdec.models.layers.norm import Norm
from pallas_kernels.span_attention import Keys, span_attention

if TYPE_CHECKING:
    from jaxdec.models.config import LayerKind, TransformerConfig


def committed(cache: Cache | None, layer: int) -> tuple[Keys, ...]:
    """What one layer's attention reads of a cache; nothing without one."""
    return () if cache is None else (cache.read(layer),)


def empty_cache(
    config: Any, batch: int, capacity: int, dtype: jax.typing.DTypeLike = jnp.float32
) -> KVCache:
    """The `init_cache` of networks of attention: keys and values for `batch` rows of `capacity` slots.

    Args:
      config: has `layers`, `kv_heads` and `head_dim`.
      batch: B.
      capacity: slots a row.
      dtype: of keys and values.
    """
    return KVCache.create(
        layers=config.layers,
        batch=batch,
        capacity=capacity,
        heads=config.kv_heads,
        head_dim=config.head_dim,
        dtype=dtype,
    )


class Attention(nnx.Module):
    """Grouped-query attention of one layer: rotary positions, norms of queries and keys, a window, as configured.

    Args:
      config: sizes.
      kind: of the layer; the first one's if not given.
      inputs: width of the states that queries, keys and values are made of; D if not given.
      rngs: of the parameters.
    """

    def __init__(
        self,
        config: "TransformerConfig",
        kind: "LayerKind | None" = None,
        *,
        inputs: int | None = None,
        rngs: nnx.Rngs,
    ):
        inner, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        inputs = config.width if inputs is None else inputs
        self.config, self.kind = config, config.kind(0) if kind is None else kind
        bias = config.attention_bias
        self.q_proj = linear(inputs, inner, rngs, bias=bias)
        self.k_proj = linear(inputs, keys, rngs, bias=bias)
        self.v_proj = linear(inputs, keys, rngs, bias=bias)
        scale = 1 / math.sqrt(2 * config.layers)
        self.o_proj = linear(inner, config.width, rngs, scale, bias=config.output_bias)
        if config.qk_norm:
            whole = config.qk_norm == "whole"
            self.q_norm = Norm(config, inner if whole else config.head_dim, rngs=rngs)
            self.k_norm = Norm(config, keys if whole else config.head_dim, rngs=rngs)

    def __call__(self, x: jax.Array, inputs: Inputs, *earlier: Keys):
        """Maps `x [B, T, D]`, the states of new tokens, to `(output [B, T, D], entries)`."""
        mixed, entries = self.mixed(x, inputs, *earlier)
        return self.o_proj(mixed), entries

    def mixed(self, x: jax.Array, inputs: Inputs, *earlier: Keys):
        """What `o_proj` takes, all heads `[B, T, H d]`, and the entries."""
        config, positions = self.config, inputs.positions
        queries = self._heads(self.q_proj(x), self.q_norm if config.qk_norm else None, positions)
        entries = self.entries(x, positions)
        new = Keys(entries.keys, entries.values, inputs.key_spans, positions)
        mixed, _ = span_attention(
            queries,
            inputs.query_spans,
            *earlier,
            new,
            positions=positions,
            window=self.kind.window,
            scale=config.attention_scale,
        )
        return mixed.swapaxes(1, 2).reshape(*x.shape[:2], -1), entries

    def entries(self, x: jax.Array, positions: jax.Array) -> LayerEntries:
        """Keys and values of states `x [B, T, D]` at `positions [B, T]`."""
        norm = self.k_norm if self.config.qk_norm else None
        keys = self._heads(self.k_proj(x), norm, positions)
        return LayerEntries(keys, self._heads(self.v_proj(x)))

    def _heads(
        self, y: jax.Array, norm: Norm | None = None, positions: jax.Array | None = None
    ) -> jax.Array:
        """Heads `[B, H, T, d]` of `[B, T, H d]`, normed, and turned where positions are given."""
        if norm is not None and self.config.qk_norm == "whole":
            y = norm(y)
        y = y.reshape(*y.shape[:2], -1, self.config.head_dim)
        if norm is not None and self.config.qk_norm == "head":
            y = norm(y)
        y = y.swapaxes(1, 2)
        if positions is None or self.kind.rotary is None:
            return y
        return self.kind.rotary(y, positions)
