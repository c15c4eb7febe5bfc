"""The model contract: one forward for every algorithm.

    forward(params, inputs, cache) -> Output

scores T new tokens at given positions; each may attend to some committed tokens of a cache and to some of the
other new tokens, as its spans say (`jaxdec.visibility`). The forward only reads the cache. What was computed for
the new tokens comes back as `entries`, and `cache.commit` or `cache.write` stores those that are kept: a draft that
is not accepted leaves no trace, so nothing is ever rolled back.

Legend: B rows, T new tokens, V vocabulary, D width.
"""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.cache.contract import Entries

Params = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Queries:
    """What an any-subset model is asked: the law of a token at some position, given what a span sees.

    Attributes:
      positions: int32 `[B, Q]`, the places of the tokens in question.
      query_spans: int32 `[B, Q, 2]`, the span that each query sees with; nobody sees a query.
      size: int32 `[B]`, positions of the sequence in all, for models that read unknown tokens as masks.
      longest: a bound on all sizes, static; None for what the inputs and the cache hold.
    """

    positions: jax.Array
    query_spans: jax.Array
    size: jax.Array
    longest: int | None = dataclasses.field(default=None, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mixture:
    """Several tokens at each place, read as one: the embedding is a weighted sum of theirs.

        x = sum_i w_i E(v_i)

    Attributes:
      tokens: int32 `[B, T, K]`.
      weights: float32 `[B, T, K]`, of sum 1.
    """

    tokens: jax.Array
    weights: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inputs:
    """New tokens to score.

    Attributes:
      tokens: int32 `[B, T]`, or embeddings `[B, T, D]` float for parts that work on latents.
      positions: int32 `[B, T]`, places in the sequence (for the position code, not for visibility).
      query_spans: int32 `[B, T, 2]`, the span of each token as a query.
      key_spans: int32 `[B, T, 2]`, the span over which each token is seen by the other new tokens.
      queries: what is asked instead of the token after each new token; None for causal models. A network under
        `two_stream` finds them as its last Q new tokens too.
      features: `[B, T, D]`, what a drafter's network reads of a target's hidden states beside the tokens
        (`Model.features`), or in their place; else None.
      before: int32 `[B, T]`, the new token at the position before that of each, by its index; -1 where it is not among
        them. Models that read the row before (`Model.reads_before`) need it unless the tokens stand in order: None
        says that it is the one before, where positions are consecutive.
      at: int32 `[B, A]`, the new tokens whose laws and states are wanted, by their indices; None for all T. Entries are
        those of all. Not beside queries, which say what is wanted themselves.
      mixture: what is read in place of `tokens`, by models that can (`Model.mixes`); `tokens` are then the heaviest.
    """

    tokens: jax.Array
    positions: jax.Array
    query_spans: jax.Array
    key_spans: jax.Array
    queries: Queries | None = None
    features: jax.Array | None = None
    before: jax.Array | None = None
    at: jax.Array | None = None
    mixture: Mixture | None = None

    def wanted(self, states: jax.Array) -> jax.Array:
        """States `[B, T, ...]` of the tokens `at`, `[B, A, ...]`; all of them where it is None."""
        if self.at is None:
            return states
        return jnp.take_along_axis(states, self.at[..., None], axis=1, mode="clip")

    @classmethod
    def causal(
        cls,
        tokens: jax.Array,
        start: jax.Array | int = 0,
        valid: jax.Array | None = None,
        features: jax.Array | None = None,
    ) -> "Inputs":
        """Consecutive tokens of a causal sequence.

        Args:
          tokens: int32 `[B, T]`.
          start: position of the first token, int32 `[B]` or one integer.
          valid: bool `[B, T]`; tokens that are padding are seen by nobody.
          features: `[B, T, D]` or None.
        """
        positions = jnp.broadcast_to(
            jnp.asarray(start)[..., None] + jnp.arange(tokens.shape[1]), tokens.shape[:2]
        ).astype(jnp.int32)
        spans = visibility.causal(positions)
        if valid is not None:
            spans = spans.where(valid)
        return cls(tokens, positions, spans.query_spans, spans.key_spans, features=features)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Output:
    """What a forward returns.

    Attributes:
      logits: float32 `[B, T, V]`; row t is the law of the token that follows (or fills) row t of the inputs. If the
        inputs have queries, `[B, Q, V]`: the answers. If they say `at`, `[B, A, V]`, and the states are of these too.
      hidden: `[B, T, D]`, the state that the logits are read from.
      layer_states: hidden states `[B, T, D]` after the layers that the model was asked for.
      entries: a pytree with leading axes that the model's cache understands.
    """

    logits: jax.Array
    hidden: jax.Array
    layer_states: tuple[jax.Array, ...]
    entries: Entries


@dataclasses.dataclass(frozen=True)
class Model:
    """A forward and the cache that goes with it: all that a decoder knows of a network.

    Both functions are static parts of a compiled program, so a `Model` compares by value and the same function
    objects should be passed each time.

    Attributes:
      forward: `(params, inputs, cache) -> Output`; `cache=None` scores the new tokens on their own.
      init_cache: `(batch, capacity) -> cache` with every slot empty.
      vocab_size: V.
      max_length: the longest sequence that the position code supports; None for no limit. `forward` sees positions
        in `[0, max_length)` alone.
      eos: tokens that end a sequence unless a request says otherwise: one, or several.
      any_subset: whether `forward` answers `Inputs.queries`.
      causal: whether it predicts the token after each new token, where there are no queries.
      mask_token: what stands at the unknown positions of a canvas; a model that has one and is not of any subset
        predicts the token at the place of each row. None for other models.
      whole_rows: whether each query costs the forward of a whole row (`masked_rows`), and tokens cost nothing.
      reads_before: whether the law at a place is read off the row at the position before it (`shifted`), which then has
        to be among the new tokens; laws without it are NaN.
      taps: for a network that drafts from a target's hidden states, after which of its layers (0 is the embedding);
        none for the last hidden states.
      fuse: for such a network, `(params, states [B, T, W]) -> features [B, T, D]`; None where it reads the states
        themselves.
      picks: whether `forward` computes laws at `Inputs.at` alone. Else it is never given `at`, and what is wanted is
        taken out of the laws of all tokens, which costs what these cost.
      mixes: whether it reads an `Inputs.mixture`.

    Raises:
      ValueError: for sizes that are no positive integers, or an `eos` outside the vocabulary.
    """

    forward: Callable[..., Output]
    init_cache: Callable[[int, int], Any]
    vocab_size: int
    max_length: int | None = None
    eos: tuple[int, ...] = ()
    any_subset: bool = False
    causal: bool = True
    mask_token: int | None = None
    whole_rows: bool = False
    reads_before: bool = False
    taps: tuple[int, ...] = ()
    fuse: Callable[..., jax.Array] | None = None
    picks: bool = False
    mixes: bool = False

    def __post_init__(self):
        try:
            eos = np.atleast_1d(np.asarray(self.eos, None if np.size(self.eos) else int))
            tokens = tuple(operator.index(token) for token in eos)
        except (TypeError, ValueError):
            raise ValueError(
                f"eos must be a token or a sequence of tokens, got {self.eos!r}"
            ) from None
        object.__setattr__(self, "eos", tokens)
        for name in ("vocab_size", "max_length"):
            value = getattr(self, name)
            if not (isinstance(value, int | np.integer) and value >= 1):
                if name == "max_length" and value is None:
                    continue
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        for token in tokens:
            if not 0 <= token < self.vocab_size:
                raise ValueError(f"eos holds {token}, outside the vocabulary of {self.vocab_size}")

    def __call__(self, params: Params, inputs: Inputs, cache: Any = None) -> Output:
        """The forward, which is never asked beyond its positions: what every decoder and every wrapper calls.

        Tokens at or past `max_length` are padding, or drafts past the end: nothing that is emitted depends on them, but
        they are computed. Their positions are clamped to `[0, max_length)`, here and nowhere else; a learned table of
        positions has no entry for them.

        Args:
          params: of the model.
          inputs: T new tokens.
          cache: committed tokens, only read; None scores the new tokens on their own.
        """
        if self.max_length is not None:
            last = self.max_length - 1
            within = lambda owner: dataclasses.replace(
                owner, positions=jnp.clip(owner.positions, 0, last)
            )
            inputs = within(inputs)
            if inputs.queries is not None:
                inputs = dataclasses.replace(inputs, queries=within(inputs.queries))
        if inputs.at is None or self.picks:
            return self.forward(params, inputs, cache)
        output = self.forward(params, dataclasses.replace(inputs, at=None), cache)
        return dataclasses.replace(
            output,
            logits=inputs.wanted(output.logits),
            hidden=inputs.wanted(output.hidden),
            layer_states=tuple(map(inputs.wanted, output.layer_states)),
        )

    def features(self, params: Params, output: Output) -> jax.Array:
        """What a drafter's network reads of a target's output: `Inputs.features`.

            fuse([h_1; ...; h_n]),   h_i the hidden states after the i-th tapped layer

        Args:
          params: of the drafter's network.
          output: of a target whose last layer states are those of the taps (`tapped`).

        Returns:
          `[B, T, D]`.
        """
        states = output.hidden
        if self.taps:
            states = jnp.concatenate(output.layer_states[-len(self.taps) :], axis=-1)
        return states if self.fuse is None else self.fuse(params, states)

    def scored_rows(self, tokens: Any, queries: Any, size: Any) -> Any:
        """Positions that a forward computes for each row, integers or int32 `[B]` as the arguments are.

            tokens + queries,   or queries * size where each query is a row of its own

        Args:
          tokens: new tokens of the row.
          queries: that it asks.
          size: positions of the sequence; only read where queries are whole rows.
        """
        return queries * size if self.whole_rows else tokens + queries

    @property
    def canvas(self) -> bool:
        """Whether the forward predicts the token at the place of each row."""
        return self.mask_token is not None and not self.any_subset

    @property
    def purpose(self) -> str:
        """What the model does, as the end of a sentence, for error messages."""
        if self.canvas:
            return "fills a canvas: it predicts the token at each place"
        if self.any_subset:
            return "answers queries"
        if self.causal:
            return "is causal: it predicts next tokens"
        return "is neither causal nor wrapped to fill masks (two_stream, masked_rows, canvas_model)"


@dataclasses.dataclass(frozen=True)
class Heads:
    """Draft heads on a target's hidden states, as drafters know them; compares by value.

    Attributes:
      law: `(params, hidden [..., D], path int32 [..., d]) -> logits [..., V]`: the law of the token after a path of
        d = 1, ..., K tokens, the first of which is the one whose law the target read from `hidden`.
      heads: K.
      width: D.
      vocab_size: V.
    """

    law: Callable[..., jax.Array]
    heads: int
    width: int
    vocab_size: int


@dataclasses.dataclass(frozen=True)
class ScoreHead:
    """A head that scores a target's hidden states, such as a process reward or a value; compares by value.

        head(params, hidden) = sigmoid(head.logit(params, hidden)),   in (0, 1)

    Attributes:
      logit: `(params, hidden [..., D]) -> float32 [...]`, where `hidden` is the state that a target has read a row's
        last token into (`Output.hidden`).
      width: D.
    """

    logit: Callable[..., jax.Array]
    width: int

    def __call__(self, params: Params, hidden: jax.Array) -> jax.Array:
        """Scores in (0, 1), float32 `[...]`, of states `[..., D]`."""
        return jax.nn.sigmoid(self.logit(params, hidden))
