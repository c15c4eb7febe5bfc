"""Models whose laws are known exactly, to test decoders against.

Both meet the model contract *literally*: what a row predicts depends on nothing but the set of (position, token) pairs
that its query may see, through the real spans and the real `KVCache`. A wrong span, position or commit changes the
conditional, and a test sees it. Neither uses Flax: any function that meets the contract can be decoded.

Legend: B rows, T new tokens, S cached slots, V vocabulary, L positions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.cache import (
    Cache,
    KVCache,
    KVEntries,
    LayerEntries,
    RecurrentCache,
    RecurrentEntries,
)
from jaxdec.model import Inputs, MaskBlocks, Model, Output, Queries
from pallas_kernels.span_attention import Keys, Split, whole, whole_tokens


def _init_cache(batch: int, capacity: int) -> KVCache:
    """A cache with one layer whose keys are the tokens themselves."""
    return KVCache.create(layers=1, batch=batch, capacity=capacity, heads=1, head_dim=1)


def seen(inputs: Inputs, cache: Cache | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What each question may see: tokens `[B, K]`, positions `[B, K]`, and bool `[B, T or Q, K]`."""
    tokens, positions, key_spans = whole_tokens((inputs.tokens, inputs.positions, inputs.key_spans))
    query_spans = inputs.query_spans if inputs.queries is None else inputs.queries.query_spans
    visible = visibility.dense(query_spans, key_spans)
    if cache is not None:
        held = whole(cache.read(0))
        assert held.positions is not None
        tokens = jnp.concatenate([tokens, _held_tokens(held)], axis=1)
        positions = jnp.concatenate([positions, held.positions], axis=1)
        cached = visibility.dense(query_spans, held.key_spans)
        visible = jnp.concatenate([visible, cached], axis=2)
    return tokens, positions, visible


def _held_tokens(held: Keys | Split) -> jax.Array:
    """Committed tokens `[B, S]`; a cache that rounds gives them back as long as it errs by less than a half."""
    return jnp.round(whole(held).keys[:, 0, :, 0]).astype(jnp.int32)


def wanted(inputs: Inputs) -> jax.Array:
    """The position that each answer is the law of: the next one of a causal row, or that of a query."""
    return inputs.positions + 1 if inputs.queries is None else inputs.queries.positions


def output(logits: jax.Array, inputs: Inputs) -> Output:
    """Logits with the entries that a cache stores: the tokens themselves."""
    stored = inputs.tokens[:, None, :, None].astype(jnp.float32)
    entries = KVEntries((LayerEntries(stored, stored),), inputs.positions)
    return Output(logits, logits, (), entries)


@dataclasses.dataclass(frozen=True)
class _Layered:
    """A forward with made-up states of layers: the logits, turned by the number of the layer.

    Attributes:
      forward: gives the logits.
      layer_states: see `jaxdec.model.tapped`.
    """

    forward: Callable[..., Output]
    layer_states: tuple[int, ...] = ()

    def __call__(self, params: Any, inputs: Inputs, cache: Cache | None = None) -> Output:
        output = self.forward(params, inputs, cache)
        states = tuple(jnp.roll(output.hidden, layer, axis=-1) for layer in self.layer_states)
        return dataclasses.replace(output, layer_states=states)


def _hash_forward(params: Any, inputs: Inputs, cache: Cache | None = None) -> Output:
    tokens, positions, visible = seen(inputs, cache)
    pairs = _mix(tokens.astype(jnp.uint32) + _mix(positions.astype(jnp.uint32) + jnp.uint32(1)))
    total = jnp.where(visible, pairs[:, None, :], jnp.uint32(0)).sum(-1, dtype=jnp.uint32)
    index = _mix(total + _mix(wanted(inputs).astype(jnp.uint32))) % params.shape[0]
    return output(params[index], inputs)


def hash_oracle(
    vocab_size: int,
    *,
    seed: int = 0,
    rows: int = 509,
    scale: float = 2.0,
    eos: tuple[int, ...] = (),
) -> tuple[Model, jax.Array]:
    """A model of unbounded length whose logits are a random function of the whole visible set.

    It decodes causally and in any order; its conditionals belong to no joint law. Of a mixture it reads the heaviest.

    Args:
      vocab_size: V.
      seed: of the table of logits `[rows, V]`.
      rows: different laws.
      scale: standard deviation of the logits.
      eos: tokens that end a sequence.

    Returns:
      `(model, params)`. Integer arithmetic picks the law, so results are equal bit for bit in any batch.
    """
    forward = _Layered(_hash_forward)
    model = Model(forward, _init_cache, vocab_size, eos=eos, any_subset=True, mixes=True)
    return model, _table(vocab_size, seed, rows, scale)


def of_any_subset(forward: Callable[..., Output], vocab_size: int) -> Model:
    """A model without a network: `forward` says the law of each question, from what it may see (`seen`)."""
    return Model(_Layered(forward), _init_cache, vocab_size, any_subset=True)


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 that spreads every bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _recurrent_forward(
    params: jax.Array, inputs: Inputs, cache: RecurrentCache | None = None
) -> Output:
    batch, width = inputs.tokens.shape
    start = jnp.zeros((batch,), jnp.uint32) if cache is None else cache.read(0)
    parents = visibility.parents(inputs.query_spans, inputs.key_spans)
    # Parents first: whoever has fewer ancestors comes before, whatever the slots are.
    order = jnp.argsort(inputs.query_spans[..., 0], axis=1, stable=True)

    def token(states, at):
        pick = lambda x, at: jnp.take_along_axis(x, at[:, None], axis=1)[:, 0]
        parent = pick(parents, at)
        before = jnp.where(parent < 0, start, pick(states, jnp.maximum(parent, 0)))
        new = pick(inputs.tokens, at).astype(jnp.uint32)
        after = _mix(before * jnp.uint32(0x9E3779B1) + new + jnp.uint32(1))
        return jax.vmap(lambda row, at, x: row.at[at].set(x))(states, at, after), None

    states, _ = jax.lax.scan(token, jnp.zeros((batch, width), jnp.uint32), order.T)
    logits = params[states % params.shape[0]]
    return Output(logits, logits, (), RecurrentEntries((states,)))


def _recurrent_cache(batch: int, capacity: int) -> RecurrentCache:
    return RecurrentCache.create((jnp.zeros((batch,), jnp.uint32),), capacity)


def recurrent_oracle(
    vocab_size: int,
    *,
    seed: int = 0,
    rows: int = 509,
    scale: float = 2.0,
    eos: tuple[int, ...] = (),
) -> tuple[Model, jax.Array]:
    """A recurrent model of unbounded length whose logits are a random function of all tokens before, in their order.

        s_t = h(s_parent(t), x_t),   logits_t = table[s_t]

    with h a hash of integers, so that results are equal bit for bit in any batch: what a state-space network is to
    decoders. Its entries are states, its cache is a `RecurrentCache`, and it sees neither positions nor masks.

    Args:
      vocab_size: V.
      seed: of the table of logits `[rows, V]`.
      rows: different laws.
      scale: standard deviation of the logits.
      eos: tokens that end a sequence.

    Returns:
      `(model, params)`.
    """
    model = Model(_recurrent_forward, _recurrent_cache, vocab_size, eos=eos)
    return model, _table(vocab_size, seed, rows, scale)


def _table(vocab_size: int, seed: int, rows: int, scale: float) -> jax.Array:
    table = np.random.default_rng(seed).normal(size=(rows, vocab_size)) * scale
    return jnp.asarray(table, jnp.float32)


@dataclasses.dataclass(frozen=True)
class _CanvasForward:
    """The law of the token `lead` positions after each row, given the tokens that the row sees; masks say nothing."""

    model: Model
    mask: int
    lead: int = 0

    def __call__(self, params: Any, inputs: Inputs, cache: Cache | None = None) -> Output:
        mask = self.mask
        key_spans = jnp.where(
            (inputs.tokens == mask)[..., None], visibility.EMPTY, inputs.key_spans
        )
        if cache is not None:
            cache = cache.hide(_held_tokens(cache.read(0)) == mask)
        size = jnp.full(inputs.tokens.shape[:1], inputs.tokens.shape[1], jnp.int32)
        asked = Queries(inputs.positions + self.lead, inputs.query_spans, size)
        inputs = dataclasses.replace(inputs, key_spans=key_spans, queries=asked)
        output = self.model(params, inputs, cache)
        if mask == self.model.vocab_size:  # one more, which is as likely as any
            logits = jnp.pad(output.logits, ((0, 0), (0, 0), (0, 1)))
            output = dataclasses.replace(output, logits=logits)
        return output


def canvas(model: Model, *, mask_token: int | None = None, lead: int = 0) -> Model:
    """An oracle as a canvas model, with laws at the place of each row; the mask is one more token or one of its own.

    Args:
      model: of any subset.
      mask_token: of its own; one more if not given.
      lead: positions from a row to the one that it predicts; 1 for what `jaxdec.model.shifted` moves back in place.
    """
    mask = model.vocab_size if mask_token is None else mask_token
    return dataclasses.replace(
        model,
        forward=_CanvasForward(model, mask, lead),
        vocab_size=max(model.vocab_size, mask + 1),
        mask_token=mask,
        any_subset=False,
        causal=False,
    )


@dataclasses.dataclass(frozen=True)
class _TwoRoles:
    """Reads tokens as the oracle does; a mask is seen by none, and its law is that of its own place."""

    model: Model

    def __call__(self, params: Any, inputs: Inputs, cache: Cache | None = None) -> Output:
        masks = inputs.tokens == self.model.vocab_size
        inputs = dataclasses.replace(
            inputs,
            tokens=jnp.where(masks, 0, inputs.tokens),
            positions=inputs.positions - masks,
            key_spans=jnp.where(masks[..., None], jnp.asarray(visibility.EMPTY), inputs.key_spans),
        )
        return self.model(params, inputs, cache)


def mask_blocks(model: Model, size: int) -> Model:
    """A causal oracle with blocks of masks, one more token, that hold the laws of their places given the text before.

    See `jaxdec.model.mask_blocks`; the vocabulary stays that of the oracle.

    Args:
      model: causal.
      size: masks of a block.
    """
    reads = dataclasses.replace(model, forward=_TwoRoles(model))
    forward = MaskBlocks(reads, model.vocab_size, size)
    return dataclasses.replace(model, forward=forward, any_subset=False, picks=True)


def blend(params: jax.Array, other: jax.Array, weight: float) -> jax.Array:
    """A hash oracle that resembles another: its table moved towards `other` by `weight` in [0, 1]."""
    return (1 - weight) * params + weight * other


@dataclasses.dataclass(frozen=True)
class _JointForward:
    """The conditionals of a joint law; `params` is its table `[V] * L`."""

    vocab_size: int
    positions: int

    def __call__(self, params: Any, inputs: Inputs, cache: Cache | None = None) -> Output:
        vocab_size, length = self.vocab_size, self.positions
        tokens, positions, visible = seen(inputs, cache)
        outcomes = np.indices((vocab_size,) * length).reshape(length, -1).T  # [V^L, L]
        contradicts = np.stack([outcomes[:, :, None] != np.arange(vocab_size)])[0]  # [V^L, L, V]
        evidence = (
            jax.nn.one_hot(positions, length, dtype=jnp.float32)[..., :, None]
            * jax.nn.one_hot(tokens, vocab_size, dtype=jnp.float32)[..., None, :]
        )  # [B, K, L, V]
        evidence = jnp.einsum("btk,bklv->btlv", visible.astype(jnp.float32), evidence)
        against = jnp.einsum("btlv,olv->bto", evidence, contradicts.astype(np.float32))
        weight = jnp.where(against == 0, params.reshape(-1), 0)  # [B, T, V^L]
        target = wanted(inputs)
        follows = jax.nn.one_hot(
            jnp.asarray(outcomes), vocab_size, dtype=jnp.float32
        )  # [V^L, L, V]
        place = jax.nn.one_hot(target, length, dtype=jnp.float32)  # zero past the end
        mass = jnp.einsum("bto,olv,btl->btv", weight, follows, place)
        # Past the last position the joint says nothing: any token may follow.
        mass = jnp.where((target >= length)[..., None], 1.0, mass)
        return output(jnp.log(mass / mass.sum(-1, keepdims=True)), inputs)


def joint_oracle(
    vocab_size: int, positions: int, *, seed: int = 0, concentration: float = 0.5
) -> tuple[Model, jax.Array]:
    """A model given by a known joint law over `V^L` sequences, conditioned on what each query sees.

    It decodes causally and in any order, always by the same joint law.

    Args:
      vocab_size: V, at most 5.
      positions: L, at most 5; later tokens are uniform.
      seed: of the law, drawn from a Dirichlet.
      concentration: of the Dirichlet; small is peaked.

    Returns:
      `(model, params)` with `params` the joint probabilities `[V] * L`.

    Raises:
      ValueError: if the table would be too large to enumerate.
    """
    if vocab_size > 5 or positions > 5:
        raise ValueError(f"a joint table takes V and L up to 5, got {vocab_size} and {positions}")
    flat = np.random.default_rng(seed).dirichlet(np.full(vocab_size**positions, concentration))
    table = jnp.asarray(flat.reshape((vocab_size,) * positions), jnp.float32)
    forward = _Layered(_JointForward(vocab_size, positions))
    return Model(forward, _init_cache, vocab_size, any_subset=True), table
