"""A network in the manner of GPT-2: a learned table of positions, LayerNorm, biases, GELU."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.cache import KVCache, KVEntries, LayerEntries
from jaxdec.model import Output
from jaxdec.models.layers import committed
from pallas_kernels.span_attention import Keys, span_attention


@dataclasses.dataclass(frozen=True)
class Config:
    vocab_size: int = 11
    width: int = 16
    layers: int = 2
    heads: int = 2
    max_length: int = 40


class Block(nnx.Module):
    def __init__(self, config, rngs):
        self.heads = config.heads
        self.ln_1 = nnx.LayerNorm(config.width, rngs=rngs)
        self.c_attn = nnx.Linear(config.width, 3 * config.width, rngs=rngs)
        self.c_proj = nnx.Linear(config.width, config.width, rngs=rngs)
        self.ln_2 = nnx.LayerNorm(config.width, rngs=rngs)
        self.c_fc = nnx.Linear(config.width, 2 * config.width, rngs=rngs)
        self.c_out = nnx.Linear(2 * config.width, config.width, rngs=rngs)

    def __call__(self, x, inputs, earlier):
        split = jnp.split(self.c_attn(self.ln_1(x)), 3, axis=-1)
        queries, keys, values = (
            y.reshape(*y.shape[:2], self.heads, -1).swapaxes(1, 2) for y in split
        )
        new = Keys(keys, values, inputs.key_spans)
        mixed, _ = span_attention(queries, inputs.query_spans, *earlier, new)
        x = x + self.c_proj(mixed.swapaxes(1, 2).reshape(x.shape))
        return x + self.c_out(jax.nn.gelu(self.c_fc(self.ln_2(x)))), LayerEntries(keys, values)


class LearnedPositions(nnx.Module):
    def __init__(self, config, rngs):
        self.config = config
        self.wte = nnx.Embed(config.vocab_size, config.width, rngs=rngs)
        self.wpe = nnx.Embed(config.max_length, config.width, rngs=rngs)
        self.h = nnx.List([Block(config, rngs) for _ in range(config.layers)])
        self.ln_f = nnx.LayerNorm(config.width, rngs=rngs)

    @staticmethod
    def init_cache(config, batch, capacity):
        return KVCache.create(
            layers=config.layers,
            batch=batch,
            capacity=capacity,
            heads=config.heads,
            head_dim=config.width // config.heads,
        )

    def __call__(self, inputs, cache=None):
        x = self.wte(inputs.tokens) + self.wpe(inputs.positions)
        entries = []
        for i, block in enumerate(self.h):
            x, entry = block(x, inputs, committed(cache, i))
            entries.append(entry)
        hidden = self.ln_f(x)
        logits = 8 * self.wte.attend(hidden).astype(jnp.float32)
        return Output(logits, hidden, (), KVEntries(tuple(entries), inputs.positions))
