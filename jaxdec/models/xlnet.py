"""XLNet: a network of any subset, in two streams and with relative positions. It meets the model contract.

Content holds tokens and is what is attended to; queries hold a learned vector and the place that they ask about, and
are attended to by nobody. Both go through the same layers, each normed after its residual sum. A score is

    l_ij = (q_i + u) k_j + (q_i + v) r R(i - j),   R(n) = [sin(n w), cos(n w)],   w_c = 10000^(-2c / D)

times `d^-0.5`: positions enter by their differences alone. No matrix of differences is made. By the addition theorem,
with `[a, b] = (q_i + v) r`,

    (q_i + v) r R(i - j) = [a sin(iw) + b cos(iw), b sin(iw) - a cos(iw)] . [cos(jw), sin(jw)]

that is D further columns of queries, and D of keys that all heads share and that follow from positions alone: they are
made where a cache is read, and never stored. Modules are named as in checkpoints.

Legend: B rows, T new tokens, Q queries, D width, H heads, d head width, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdec.cache import Cache, KVEntries, LayerEntries
from jaxdec.model import Inputs, Output
from jaxdec.models.layers import ACTIVATIONS, committed, empty_cache
from pallas_kernels.span_attention import Keys, span_attention


@dataclasses.dataclass(frozen=True)
class XLNetConfig:
    """Sizes of an `XLNet`; hashable.

    Attributes:
      vocab_size: V.
      width: D, even.
      layers: blocks.
      heads: H.
      head_dim: d.
      hidden: inner width of the feed-forward unit.
      activation: of that unit: `"gelu"`, `"gelu_tanh"` or `"silu"`.
      norm_epsilon: added to the variance.
      tied: whether the head is the embedding's transpose; it has a bias in any case.
      max_length: longest sequence that decoders accept; None for any, since positions are relative.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    head_dim: int
    hidden: int
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    tied: bool = True
    max_length: int | None = None

    def __post_init__(self):
        sizes = ("vocab_size", "width", "layers", "heads", "head_dim", "hidden")
        for name in (*sizes, *(["max_length"] if self.max_length is not None else [])):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % 2:
            raise ValueError(f"width must be even for relative positions, got {self.width}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}"
            )

    @property
    def kv_heads(self) -> int:
        """H: each query head has keys and values of its own."""
        return self.heads


def position_columns(positions: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    """`cos(p w_c)` and `sin(p w_c)`, float32 `[..., D / 2]` each, of positions p.

    Args:
      positions: int32 `[...]`.
      width: D.
    """
    frequencies = (10000.0 ** (-np.arange(0, width, 2) / width)).astype(np.float32)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def relative_queries(mapped: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """The columns of queries that, times `[cos(jw), sin(jw)]`, give `mapped . R(i - j)`.

    Args:
      mapped: `[B, H, T, D]`, what meets the sines and then the cosines of the difference.
      cos: of the queries' own positions, float32 `[B, T, D / 2]`.
      sin: likewise.

    Returns:
      float32 `[B, H, T, D]`.
    """
    first, second = jnp.split(mapped.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    return jnp.concatenate([first * sin + second * cos, second * sin - first * cos], axis=-1)


def _weights(rngs: nnx.Rngs, *shape: int) -> nnx.Param:
    return nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), shape, jnp.float32))


def _norm(config: XLNetConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The difference of two means of squares would lose what so small an epsilon needs.
    return nnx.LayerNorm(
        config.width, epsilon=config.norm_epsilon, use_fast_variance=False, rngs=rngs
    )


@dataclasses.dataclass(frozen=True)
class _Places:
    """Where new rows and keys are, as columns; the same in all layers.

    Attributes:
      cos: of the new rows, content and queries, float32 `[B, T, D / 2]`.
      sin: likewise.
      content: rows of content, T - Q.
      cached: columns of the cached keys, float32 `[B, S, D]`; None without a cache.
    """

    cos: jax.Array
    sin: jax.Array
    content: int
    cached: jax.Array | None

    def new(self) -> jax.Array:
        """Columns of the new keys."""
        return jnp.concatenate([self.cos, self.sin], axis=-1)[:, : self.content]


class RelativeAttention(nnx.Module):
    """Attention with relative positions, the residual sum and its norm.

    Of one segment, whose term `(q_i + r_s_bias) seg_embed[0]` is the same for all keys and so leaves the softmax as it
    is: both are kept for the checkpoint alone.
    """

    def __init__(self, config: XLNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        each = (config.heads, config.head_dim)
        matrix, bias = (config.width, *each), each
        self.q, self.k, self.v, self.o, self.r = (_weights(rngs, *matrix) for _ in range(5))
        self.r_w_bias, self.r_r_bias, self.r_s_bias = (_weights(rngs, *bias) for _ in range(3))
        self.seg_embed = _weights(rngs, 2, *each)
        self.layer_norm = _norm(config, rngs)

    def __call__(self, x: jax.Array, inputs: Inputs, places: _Places, *earlier: Keys):
        """Maps `x [B, T, D]`, content and then queries, to `(x, entries of the content)`."""
        content = places.content
        heads = lambda y, weight: jnp.einsum("btc,chd->bhtd", y, weight[...])
        queries = heads(x, self.q)
        known = x[:, :content]
        entries = LayerEntries(heads(known, self.k), heads(known, self.v))
        mapped = jnp.einsum("bhtd,chd->bhtc", queries + self.r_r_bias[...][:, None], self.r[...])
        new = Keys(*entries, inputs.key_spans[:, :content], shared_keys=places.new())
        mixed, _ = span_attention(
            queries + self.r_w_bias[...][:, None],
            inputs.query_spans,
            *(part.with_shared(places.cached) for part in earlier),
            new,
            shared_queries=relative_queries(mapped, places.cos, places.sin),
        )
        return self.layer_norm(x + jnp.einsum("bhtd,chd->btc", mixed, self.o[...])), entries


class FeedForward(nnx.Module):
    """`norm(x + W2 act(W1 x + b1) + b2)`."""

    def __init__(self, config: XLNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        init = nnx.initializers.normal(0.02)
        self.layer_1 = nnx.Linear(config.width, config.hidden, kernel_init=init, rngs=rngs)
        self.layer_2 = nnx.Linear(config.hidden, config.width, kernel_init=init, rngs=rngs)
        self.layer_norm = _norm(config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, T, D]` to `[B, T, D]`."""
        inner = ACTIVATIONS[self.config.activation](self.layer_1(x))
        return self.layer_norm(x + self.layer_2(inner))


class Block(nnx.Module):
    """One layer."""

    def __init__(self, config: XLNetConfig, *, rngs: nnx.Rngs):
        self.rel_attn = RelativeAttention(config, rngs=rngs)
        self.ff = FeedForward(config, rngs=rngs)

    def __call__(self, x: jax.Array, inputs: Inputs, places: _Places, *earlier: Keys):
        """Maps `x [B, T, D]` to `(x, entries)`."""
        x, entries = self.rel_attn(x, inputs, places, *earlier)
        return self.ff(x), entries


class Head(nnx.Module):
    """Logits: the embedding's transpose or a matrix of its own, and a bias."""

    def __init__(self, config: XLNetConfig, *, rngs: nnx.Rngs):
        self.tied = config.tied
        if not config.tied:
            self.kernel = _weights(rngs, config.width, config.vocab_size)
        self.bias = nnx.Param(jnp.zeros((config.vocab_size,), jnp.float32))

    def __call__(self, x: jax.Array, embedding: nnx.Embed) -> jax.Array:
        """Maps `[B, T, D]` to `[B, T, V]` float32."""
        kernel = embedding.embedding[...].T if self.tied else self.kernel[...]
        scores = jnp.dot(x, kernel, preferred_element_type=jnp.float32)
        return scores + self.bias[...].astype(jnp.float32)


class XLNet(nnx.Module):
    """The network: `module(inputs, cache) -> Output`.

    `any_subset.two_stream(model, mask_token)` makes it answer queries: those are the last rows of the inputs, which
    hold `mask_emb` whatever the mask token, and logits and hidden states are theirs. Without queries content predicts
    the token at its own place.

    Raises:
      ValueError: from the config, for sizes that are none.

    Source: 1906.08237; 2504.20456 for any subset.
    """

    def __init__(self, config: XLNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.word_embedding = nnx.Embed(
            config.vocab_size,
            config.width,
            embedding_init=nnx.initializers.normal(0.02),
            rngs=rngs,
        )
        self.mask_emb = _weights(rngs, config.width)
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.lm_loss = Head(config, rngs=rngs)

    init_cache = staticmethod(empty_cache)

    def __call__(
        self,
        inputs: Inputs,
        cache: Cache | None = None,
        layer_states: tuple[int, ...] = (),
        layers: int | None = None,
    ) -> Output:
        """Scores new tokens, or answers queries; see `jaxdec.model`.

        Args:
          inputs: T new tokens (or embeddings `[B, T, D]`), the last Q of which are the queries if there are any.
          cache: committed tokens, only read; None scores the new tokens on their own.
          layer_states: layers (0 is the embedding) whose hidden states are returned.
          layers: how many blocks run before the head; all of them for None.
        """
        asked = 0 if inputs.queries is None else inputs.queries.positions.shape[1]
        x: Any = inputs.tokens
        if jnp.issubdtype(x.dtype, jnp.integer):
            x = self.word_embedding.embedding[...][x]  # in its own type, whatever the module's
        content = x.shape[1] - asked
        blank = jnp.broadcast_to(self.mask_emb[...], (x.shape[0], asked, x.shape[2]))
        x = jnp.concatenate([x[:, :content], blank.astype(x.dtype)], axis=1)
        places = self._places(inputs, cache, content)
        entries, states = [], [x]
        for i, block in enumerate(list(self.layers)[:layers]):
            x, entry = block(x, inputs, places, *committed(cache, i))
            entries.append(entry)
            states.append(x)
        hidden = x if inputs.queries is None else x[:, content:]
        return Output(
            logits=self.lm_loss(hidden, self.word_embedding),
            hidden=hidden,
            layer_states=tuple(states[i] for i in layer_states),
            entries=KVEntries(tuple(entries), inputs.positions[:, :content]),
        )

    def _places(self, inputs: Inputs, cache: Cache | None, content: int) -> _Places:
        width, cached = self.config.width, None
        for part in committed(cache, 0):
            assert part.positions is not None
            cached = jnp.concatenate(position_columns(part.positions, width), axis=-1)
        return _Places(*position_columns(inputs.positions, width), content, cached)
