"""Chimera's drafter: features of the last three tokens, and one layer over the target's states that they see.

The target's states h_0, ..., h_{n-1} are the past; a new token x_n, which the target has not read, stands as what a
small network makes of x_{n-2}, x_{n-1}, x_n. One layer over both gives a state in place of h_n, and the next draft goes
on from that one:

    g_n = trigram(x_{n-2}, x_{n-1}, x_n)
    h^_n = layer(h_0, ..., h_{n-1}, g_n)_n
    q(x_{n+1}) = softmax(U [h; h^_n]),   h the last state of the target that is known

Slots are pairs as EAGLE's are: that of token x_n carries [h_{n-1}; h], of which the first half may be predicted.

Legend: B rows, T new tokens, D width, E width of the embedding, V vocabulary.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec import visibility
from jaxdec.cache import KVEntries, RecurrentEntries, SummedCache, SummedEntries
from jaxdec.model import Inputs, Output
from jaxdec.model.next_token import doubled
from jaxdec.models.config import TransformerConfig
from jaxdec.models.layers import committed, empty_cache, rows
from jaxdec.models.transformer import Block
from pallas_kernels.span_attention import Keys


@dataclasses.dataclass(frozen=True)
class ChimeraConfig(TransformerConfig):
    """Sizes of `Chimera`; hashable.

    Attributes:
      embedding: E; D if not given, and then the target's embedding at first.

    Raises:
      ValueError: for other than 1 layer, or an embedding of no width.
    """

    embedding: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.layers != 1:
            raise ValueError(f"Chimera's drafter has 1 layer, got {self.layers}")
        if self.embedding is not None and self.embedding < 1:
            raise ValueError(f"embedding must be at least 1, got {self.embedding}")


class TrigramEncoder(nnx.Module):
    """`W (x + silu(V x))` of the embeddings of three tokens side by side."""

    def __init__(self, config: ChimeraConfig, *, rngs: nnx.Rngs):
        width = config.width if config.embedding is None else config.embedding
        # Of another width than the target's, it goes by another name: `start_heads` puts the target's in the former.
        embed = nnx.Embed(config.vocab_size, width, rngs=rngs)
        if config.embedding is None:
            self.embed_tokens = embed
        else:
            self.embed_narrow = embed
        self.norm = nnx.RMSNorm(width, epsilon=config.norm_epsilon, rngs=rngs)
        zeros = nnx.initializers.zeros
        self.block = nnx.Linear(3 * width, 3 * width, kernel_init=zeros, rngs=rngs)
        self.out = nnx.Linear(3 * width, config.width, use_bias=False, rngs=rngs)

    def __call__(self, grams: jax.Array) -> jax.Array:
        """Features `[..., D]` of tokens int32 `[..., 3]`."""
        embed = self.embed_tokens if hasattr(self, "embed_tokens") else self.embed_narrow
        x = self.norm(rows(embed, grams)).reshape(*grams.shape[:-1], -1)
        return self.out(x + nnx.silu(self.block(x)))


class Chimera(nnx.Module):
    """The network: `module(inputs, cache) -> Output`, inputs with features; see the module's equations.

    A slot has two rows. One holds the state before its token, at the position of that, and is what later slots see and
    the cache keeps; the other, which is computed where it is wanted alone, holds the trigram, which nobody else sees.
    Tokens before the first pair of a text are taken to be the first.

    Source: 2402.15758. Its output matrix starts as two of the target's side by side, as here; its embedding is the
    target's.
    """

    picks = True

    def __init__(self, config: ChimeraConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.trigram = TrigramEncoder(config, rngs=rngs)
        self.layer = Block(config, rngs=rngs)
        init = nnx.initializers.normal(1 / math.sqrt(config.width))
        head = lambda: nnx.Linear(
            config.width, config.vocab_size, use_bias=False, kernel_init=init, rngs=rngs
        )
        # The matrix over both halves, as two; each starts as the target's.
        self.last = nnx.Dict(lm_head=head())
        self.predicted = nnx.Dict(lm_head=head())

    @staticmethod
    def init_cache(
        config: ChimeraConfig,
        batch: int,
        capacity: int,
        dtype: jax.typing.DTypeLike = jnp.float32,
    ) -> SummedCache:
        """Keys and values of `capacity` states of the target, and the last two tokens; -1 where there is none."""
        start = jnp.full((batch, 2), -1, jnp.int32)
        return SummedCache.create(empty_cache(config, batch, capacity, dtype), (start,))

    def fuse(self, states: jax.Array) -> jax.Array:
        """Features `[..., 2 D]` of the target's states: each is the last one that is known."""
        return jnp.concatenate([states, states], axis=-1)

    def __call__(self, inputs: Inputs, cache: Any = None) -> Output:
        """Predicts the state, and the law, after each new pair; see `jaxdec.model`."""
        start = jnp.full((len(inputs.tokens), 2), -1, jnp.int32)
        if cache is not None:
            start = cache.states.read(0)
            cache = cache.renumber(doubled)
        return self._read(inputs, start, *committed(cache, 0))

    def read(self, inputs: Inputs, *earlier: Keys) -> Output:
        """The same of the first pairs of a text, over the keys and values of other rows of it."""
        start = jnp.full((len(inputs.tokens), 2), -1, jnp.int32)
        more = (keys._replace(key_spans=doubled(keys.key_spans)) for keys in earlier)
        return self._read(inputs, start, *more)

    def _read(self, inputs: Inputs, start: jax.Array, *earlier: Keys) -> Output:
        width, features = inputs.tokens.shape[1], inputs.features
        assert features is not None
        grams = _grams(inputs, start)
        states, last = jnp.split(features, 2, axis=-1)
        join = lambda a, b: jnp.concatenate([a, b], axis=1)
        # A trigram sees what its token sees, the state of its own slot too, and of the trigrams itself alone.
        between = inputs.wanted(2 * inputs.query_spans + 1)
        hidden = inputs.key_spans[..., :1] > inputs.key_spans[..., 1:]
        own = jnp.where(inputs.wanted(hidden), visibility.EMPTY, between)
        asked = Inputs(
            inputs.tokens,
            join(inputs.positions - 1, inputs.wanted(inputs.positions[..., None])[..., 0]),
            join(2 * inputs.query_spans, between),
            join(doubled(inputs.key_spans), own),
        )
        x = join(states, self.trigram(inputs.wanted(grams)).astype(states.dtype))
        x, entry = self.layer(x, asked, *earlier)
        x, last = x[:, width:], inputs.wanted(last)
        logits = self.last["lm_head"](last) + self.predicted["lm_head"](x)
        entries = SummedEntries(
            KVEntries((entry,), asked.positions).first(width), RecurrentEntries((grams[..., 1:],))
        )
        hidden = jnp.concatenate([x, last.astype(x.dtype)], axis=-1)
        return Output(logits.astype(jnp.float32), hidden, (), entries)


def _grams(inputs: Inputs, start: jax.Array) -> jax.Array:
    """Each new token and the two before it, int32 `[B, T, 3]`; before the first two are those of `start [B, 2]`."""
    tokens = inputs.tokens
    before = inputs.before
    if before is None:
        before = jnp.broadcast_to(jnp.arange(-1, tokens.shape[1] - 1), tokens.shape)
    held = jnp.concatenate(
        [start, tokens], axis=1
    )  # the place of token t is t + 2; -1 is the last of `start`
    at = lambda values, index: jnp.take_along_axis(values, index, axis=1)
    # What stands before each held token: of the last of `start` its first, of that itself.
    zeros = jnp.zeros_like(tokens[:, :1])
    above = jnp.concatenate([zeros, zeros, before + 2], axis=1)
    first = at(above, above)[:, 2:]
    grams = jnp.stack([at(held, first), at(held, above[:, 2:]), tokens], axis=-1)
    second = jnp.where(grams[..., 1] < 0, grams[..., 2], grams[..., 1])
    third = jnp.where(grams[..., 0] < 0, second, grams[..., 0])
    return jnp.stack([third, second, tokens], axis=-1)
