"""A model of tokens that is read byte by byte: its cache, and the covers of the text so far.

The encodings of all beginnings of a text are a tree: e_n is an earlier one and a token more. Each has one slot of the
cache, and a forward of one token sees the slots of its own encoding alone.

Legend: B rows, S slots, V vocabulary, L bytes of the longest token, n bytes of a text.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.byte_level.covers import Covers, begin, extend, follow, next_law, restricted
from jaxdec.byte_level.tokens import ByteTokens
from jaxdec.decoding import TARGET, Part, Request, check_parts, check_serves
from jaxdec.model import Inputs, Model, Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MemberState:
    """How far a member has read.

    Attributes:
      cache: a slot for the start, and one for each byte.
      covers: of the bytes.
      seen: bool `[B, L, S]`, the slots of encoding e_i, at i mod L.
      depth: int32 `[B, L]`, the tokens of e_i, the start not counted, at i mod L.
    """

    cache: Any
    covers: Covers
    seen: jax.Array
    depth: jax.Array


@dataclasses.dataclass(frozen=True)
class Member(Part):
    """See `member`."""

    model: Model
    start: int
    ends: tuple[int, ...]
    weights: str
    name: str

    @property
    def names(self) -> tuple[str, ...]:
        """The model's, unless it is the target, and that of its tables."""
        return tuple(name for name in (self.weights, self.name) if name != TARGET)

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for tables of another vocabulary, or a model that cannot serve."""
        check_parts(params, self.names)
        tables = params[self.name]
        if not isinstance(tables, ByteTokens):
            raise ValueError(
                f"params[{self.name!r}] must be what byte_level.byte_tokens gives, got {type(tables).__name__}"
            )
        if tables.vocab_size > self.model.vocab_size:
            raise ValueError(
                f"the tables {self.name!r} have {tables.vocab_size} tokens, the model has {self.model.vocab_size}"
            )
        for token in self.ends:
            if token >= tables.vocab_size:
                raise ValueError(
                    f"the tables {self.name!r} have {tables.vocab_size} tokens, but {token} ends a text"
                )
        check_serves(f"model {self.weights!r}", self.model, params[self.weights])

    def init(self, params: Params, request: Request) -> MemberState:
        """Reads the start, and each prompt but for its last byte."""
        batch, width = request.prompt.shape
        tokens: ByteTokens = params[self.name]
        cache = request.new_cache(self.model)
        one = jnp.ones((batch,), jnp.int32)
        start = jnp.full((batch,), self.start, jnp.int32)
        logits, cache = self._forward(params, cache, start, one - 1, None, one)
        law, end = restricted(logits, jnp.asarray(tokens.lengths) > 0, self.ends)
        ring = jnp.zeros((batch, tokens.longest), jnp.int32)
        seen = jnp.zeros((*ring.shape, cache.capacity), bool).at[:, 0, 0].set(True)
        state = MemberState(cache, begin(tokens, law, end), seen, ring)
        whole = request.lengths - 1

        def byte(t, state):
            at = jax.lax.dynamic_index_in_dim(request.prompt, t, axis=1, keepdims=False)
            return self.read(params, state, at, t < whole)

        return jax.lax.fori_loop(jnp.int32(0), jnp.minimum(whole.max(), width), byte, state)

    def read(
        self, params: Params, state: MemberState, byte: jax.Array, active: jax.Array
    ) -> MemberState:
        """Reads a byte more: one forward of one token.

        Args:
          params: of the decoder.
          state: before.
          byte: int32 `[B]`.
          active: bool `[B]`, rows that read it; the others stay as they are.
        """
        tokens: ByteTokens = params[self.name]
        covers, done = follow(state.covers, tokens, byte)
        pick = lambda x: jnp.take_along_axis(x, done.row[:, None], axis=1)[:, 0]
        visible = jnp.take_along_axis(state.seen, done.row[:, None, None], axis=1)[:, 0]
        depth, slot = pick(state.depth) + 1, state.cache.length
        logits, cache = self._forward(
            params, state.cache, done.token, depth, visible, active.astype(jnp.int32)
        )
        law, end = restricted(logits, tokens.after(done.token), self.ends)
        covers = extend(covers, done, law, end)
        visible |= jnp.arange(visible.shape[1]) == slot[:, None]
        here = jnp.arange(tokens.longest) == (covers.length % tokens.longest)[:, None]
        read = MemberState(
            cache=state.cache,
            covers=covers,
            seen=jnp.where(here[..., None], visible[:, None], state.seen),
            depth=jnp.where(here, depth[:, None], state.depth),
        )
        of_row = lambda x: active.reshape(-1, *(1,) * (x.ndim - 1))
        old = dataclasses.replace(state, cache=None)
        read = jax.tree.map(
            lambda new, old: jnp.where(of_row(new), new, old),
            dataclasses.replace(read, cache=None),
            old,
        )
        return dataclasses.replace(read, cache=cache)

    def law(self, params: Params, state: MemberState) -> jax.Array:
        """Log-probabilities of the next byte, float32 `[B, 257]`."""
        return next_law(state.covers, params[self.name])

    def _forward(
        self,
        params: Params,
        cache: Any,
        token: jax.Array,
        depth: jax.Array,
        visible: jax.Array | None,
        count: jax.Array,
    ) -> tuple[jax.Array, Any]:
        """The law after one token, and the cache with it where `count [B]` is 1."""
        depth = depth[:, None]
        spans = visibility.full(jnp.zeros_like(depth))
        inputs = Inputs(token[:, None], depth, spans.query_spans, spans.key_spans)
        read = cache if visible is None else cache.hide(~visible)
        output = self.model(params[self.weights], inputs, read)
        cache = cache.commit(output.entries, jnp.zeros_like(depth), count, spans.key_spans)
        size = params[self.name].vocab_size
        return output.logits[:, 0, :size], cache


@typed
def member(
    model: Model,
    *,
    start: int,
    ends: tuple[int, ...] | None = None,
    weights: str = TARGET,
    name: str = "bytes",
) -> Member:
    """A model of tokens, to be read byte by byte.

    Args:
      model: causal.
      start: the token that a text begins after, such as that of the beginning of a document.
      ends: tokens that end a text; those of the model if not given.
      weights: the name of its parameters.
      name: the name of its tables (`byte_tokens`) among the parameters.

    Raises:
      ValueError: for a model that predicts no next token, or tokens that it has not.
    """
    if not model.causal or model.canvas:
        raise ValueError(f"the model {model.purpose}, and predicts no next token")
    ends = model.eos if ends is None else ends
    for token in (start, *ends):
        if not 0 <= token < model.vocab_size:
            raise ValueError(f"token {token} lies outside the vocabulary of {model.vocab_size}")
    return Member(model, start, tuple(ends), weights, name)


def longest(model: Model) -> int | None:
    """Bytes that a text may have; None for no limit: a model of N positions holds the start and N - 1 tokens."""
    return None if model.max_length is None else int(np.maximum(model.max_length - 1, 1))
