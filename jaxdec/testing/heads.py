"""Draft heads and layers over oracles, whose hidden states are their logits.

Legend: D width of the hidden states, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.cache import Cache
from jaxdec.model import Heads, Inputs, Model, Output, Params, PositionHead
from jaxdec.models import FinalityConfig, UnmaskingConfig, build_heads


@dataclasses.dataclass(frozen=True)
class _HeadLaw:
    """The target's law turned by the depth, and moved by what a table says of the path, or of its last token."""

    reads_path: bool

    def __call__(self, params: Params, hidden: jax.Array, path: jax.Array) -> jax.Array:
        depth = path.shape[-1]
        read = path if self.reads_path else jnp.full_like(path, depth)
        weights = np.array([31, 7, 13, 3, 17, 5, 11, 2])[:depth]
        index = (read * weights).sum(-1) % params.shape[0]
        return 0.5 * jnp.roll(jnp.maximum(hidden, -20.0), depth, axis=-1) + params[index]


def oracle_heads(
    vocab_size: int, heads: int, *, reads_path: bool = True, seed: int = 0
) -> tuple[Heads, jax.Array]:
    """Draft heads on an oracle, wrong as often as not; and their params.

    Args:
      vocab_size: V, which is D as well.
      heads: K, at most 8.
      reads_path: whether a head reads the tokens drafted before it (Hydra), or its depth alone (Medusa).
      seed: of the table.
    """
    table = np.random.default_rng(seed).normal(size=(61, vocab_size))
    return Heads(_HeadLaw(reads_path), heads, vocab_size, vocab_size), jnp.asarray(
        table, jnp.float32
    )


@dataclasses.dataclass(frozen=True)
class _Featured:
    """A forward whose law is that of an oracle, shifted by the features: those predicted are laws as well."""

    model: Model
    never: int | None

    def __call__(self, params: Any, inputs: Inputs, cache: Cache | None = None) -> Output:
        output = self.model.forward(params, inputs, cache)
        assert inputs.features is not None
        hidden = 0.8 * output.logits + 0.2 * jnp.maximum(inputs.features, -20.0)
        logits = hidden
        if self.never is not None:
            logits = jnp.where(jnp.arange(logits.shape[-1]) == self.never, -jnp.inf, logits)
        return dataclasses.replace(output, logits=logits, hidden=hidden)


@dataclasses.dataclass(frozen=True)
class _Fuse:
    """A mean of the states of several layers, the earlier ones weighing more."""

    taps: int

    def __call__(self, params: Params, states: jax.Array) -> jax.Array:
        weights = 1.0 / np.arange(1, self.taps + 1)
        each = jnp.split(jnp.maximum(states, -20.0), self.taps, axis=-1)
        mixed = [float(w) * state for w, state in zip(weights / weights.sum(), each, strict=True)]
        return jnp.stack(mixed).sum(0)


def featured(model: Model, *, taps: tuple[int, ...] = (), never: int | None = None) -> Model:
    """An oracle as the draft layer of EAGLE: it reads the target's states beside the tokens.

    Args:
      model: an oracle.
      taps: layers whose states are fused (EAGLE-3); the last hidden states if none.
      never: a token that is not in its vocabulary; None for a whole one.
    """
    fuse = _Fuse(len(taps)) if taps else None
    return dataclasses.replace(model, forward=_Featured(model, never), taps=taps, fuse=fuse)


@dataclasses.dataclass(frozen=True)
class _Bounded:
    """What a network makes of an oracle's states, which may be -inf."""

    fuse: Any

    def __call__(self, params: Params, states: jax.Array) -> jax.Array:
        states = jnp.maximum(states, -20.0)
        return states if self.fuse is None else self.fuse(params, states)


def small_network(kind: str, vocab_size: int, *, seed: int = 0) -> tuple[Model, Params]:
    """A network of one layer that drafts from an oracle's states, of random weights; and these.

    Args:
      kind: of `jaxdec.models.heads.LAYERS`.
      vocab_size: V, the width of the states as well.
      seed: of the weights.
    """
    from jaxdec.models.heads import LAYERS, build_heads

    sizes: dict[str, Any] = {"layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 4, "hidden": 8}
    more: dict[str, Any] = {"falcon": {"memory": 4}, "chimera": {"embedding": 4}}.get(kind, {})
    config = LAYERS[kind](vocab_size=vocab_size, width=vocab_size, **sizes, **more)
    model, params = build_heads(kind, config)
    assert isinstance(model, Model)
    rng = np.random.default_rng(seed)
    moved = lambda x: x + jnp.asarray(rng.normal(0, 0.3, x.shape), jnp.float32)
    return dataclasses.replace(model, fuse=_Bounded(model.fuse)), jax.tree.map(moved, params)


@dataclasses.dataclass(frozen=True)
class _BlockFiller:
    """A forward whose law is that of an oracle over the context and the block; features say where the context is."""

    model: Model

    def __call__(self, params: Any, inputs: Inputs, cache: Cache | None = None) -> Output:
        output = self.model.forward(params, inputs, cache)
        if inputs.features is None:
            return output
        return dataclasses.replace(output, logits=output.logits[:, :0])


def block_filler(model: Model, *, taps: tuple[int, ...]) -> Model:
    """An oracle as the drafter of DFlash, whose mask is its last token.

    Args:
      model: an oracle.
      taps: layers of the target whose states it reads.
    """
    return dataclasses.replace(
        model,
        forward=_BlockFiller(model),
        taps=taps,
        fuse=_Fuse(len(taps)),
        mask_token=model.vocab_size - 1,
        any_subset=False,
        causal=False,
    )


def position_head(kind: str, seed: int = 0) -> tuple[PositionHead, Params]:
    """A small head on how sure a model is, that says different things of different positions; and its params.

    Args:
      kind: `"unmasking"` or `"finality"`.
      seed: of the weights.
    """
    sizes: dict[str, UnmaskingConfig | FinalityConfig] = {
        "unmasking": UnmaskingConfig(width=8, hidden=8, heads=1),
        "finality": FinalityConfig(window=8, hidden=8),
    }
    head, params = build_heads(kind, sizes[kind], seed=seed)
    assert isinstance(head, PositionHead)
    # Fresh ones say almost the same of all positions.
    leaves, tree = jax.tree.flatten(params)
    generator = np.random.default_rng(seed)
    moved = [x + jnp.asarray(generator.normal(size=x.shape), jnp.float32) for x in leaves]
    return head, jax.tree.unflatten(tree, moved)
