"""Draft heads on a target's last hidden state: Medusa's, which do not see one another's tokens, and Hydra's, which do.

Head d (1, 2, ..., K) reads the state h_t whose logits give the token at t + 1, and gives the law of the token at
t + 1 + d. Each head has an output matrix of its own, which starts as the target's: an untrained head repeats the law of
the token at t + 1.

Legend: B rows, K heads, D width, V vocabulary.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.arguments import check_fields
from jaxdec.model import Heads, Model, Params, ScoreHead, from_nnx, heads_from_nnx, score_from_nnx
from jaxdec.models.adjust import Adjust
from jaxdec.models.chimera import Chimera, ChimeraConfig
from jaxdec.models.config import TransformerConfig
from jaxdec.models.eagle import Eagle
from jaxdec.models.falcon import Falcon, FalconConfig
from jaxdec.models.layers import rows
from jaxdec.models.scores import Score, ScoreConfig


@dataclasses.dataclass(frozen=True)
class HeadsConfig:
    """Sizes of `Medusa` and of `Hydra`; hashable.

    Attributes:
      vocab_size: V, the target's.
      width: D, the target's.
      heads: K, the longest draft.
      blocks: residual blocks of a head.
    """

    vocab_size: int
    width: int
    heads: int = 4
    blocks: int = 1

    def __post_init__(self):
        check_fields(self)
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(
                    f"{field.name} must be at least 1, got {getattr(self, field.name)}"
                )


def _gate(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    """The inner product of a residual block, which starts as zero."""
    return nnx.Linear(inputs, outputs, kernel_init=nnx.initializers.zeros, rngs=rngs)


def _matrix(config: HeadsConfig, rngs: nnx.Rngs) -> nnx.Linear:
    init = nnx.initializers.normal(1 / math.sqrt(config.width))
    return nnx.Linear(config.width, config.vocab_size, use_bias=False, kernel_init=init, rngs=rngs)


class MedusaHead(nnx.Module):
    """`x + silu(W x + b)` a block, then the output matrix."""

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs):
        self.blocks = nnx.List(
            [_gate(config.width, config.width, rngs) for _ in range(config.blocks)]
        )
        self.lm_head = _matrix(config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., D]` to logits `[..., V]`."""
        for block in self.blocks:
            x = x + nnx.silu(block(x))
        return self.lm_head(x).astype(jnp.float32)


class Medusa(nnx.Module):
    """K independent heads: the law of a draft does not depend on the drafts before it.

    Source: 2401.10774, Medusa-1.
    """

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.heads = nnx.List([MedusaHead(config, rngs=rngs) for _ in range(config.heads)])

    def __call__(self, hidden: jax.Array, path: jax.Array) -> jax.Array:
        """Logits `[..., V]` of head d.

        Args:
          hidden: `[..., D]`.
          path: `[..., d]`, the tokens from t + 1 to t + d; only their number is read.
        """
        return self.heads[path.shape[-1] - 1](hidden)


class HydraHead(nnx.Module):
    """Head d: `A x + silu(W x + b)` of the state and d embeddings, further blocks as Medusa's, the output matrix."""

    def __init__(self, config: HeadsConfig, depth: int, *, rngs: nnx.Rngs):
        inputs = (depth + 1) * config.width
        # The skip starts as the identity on the state, so that an untrained head is an untrained one of Medusa.
        identity = lambda key, shape, dtype: jnp.eye(shape[0], shape[1], dtype=dtype)
        self.skip = nnx.Linear(
            inputs, config.width, use_bias=False, kernel_init=identity, rngs=rngs
        )
        self.gate = _gate(inputs, config.width, rngs)
        self.blocks = nnx.List(
            [_gate(config.width, config.width, rngs) for _ in range(config.blocks - 1)]
        )
        self.lm_head = _matrix(config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., (d + 1) D]` to logits `[..., V]`."""
        x = self.skip(x) + nnx.silu(self.gate(x))
        for block in self.blocks:
            x = x + nnx.silu(block(x))
        return self.lm_head(x).astype(jnp.float32)


class Hydra(nnx.Module):
    """K sequential heads: head d also reads the embeddings of the d tokens between the state and the draft.

    Embeddings are normalised before they are joined to the state, whose scale is that of a norm.

    Source: 2402.05109, without the prefix layer of Hydra++.
    """

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embed_tokens = nnx.Embed(config.vocab_size, config.width, rngs=rngs)
        self.norm = nnx.RMSNorm(config.width, rngs=rngs)
        self.heads = nnx.List(
            [HydraHead(config, depth + 1, rngs=rngs) for depth in range(config.heads)]
        )

    def __call__(self, hidden: jax.Array, path: jax.Array) -> jax.Array:
        """Logits `[..., V]` of head d.

        Args:
          hidden: `[..., D]`.
          path: int32 `[..., d]`, the tokens from t + 1 to t + d.
        """
        tokens = self.norm(rows(self.embed_tokens, path)).reshape(*path.shape[:-1], -1)
        hidden = jnp.broadcast_to(hidden, (*path.shape[:-1], hidden.shape[-1]))
        joined = jnp.concatenate([hidden, tokens.astype(hidden.dtype)], axis=-1)
        return self.heads[path.shape[-1] - 1](joined)


KINDS = {
    "medusa": Medusa,
    "hydra": Hydra,
    "eagle": Eagle,
    "falcon": Falcon,
    "chimera": Chimera,
    "adjust": Adjust,
    "reward": Score,
    "value": Score,
    "judge": Score,
}
"""The networks that draft from a target's hidden states or score them, by the names that checkpoints call them."""


LAYERS: dict[str, type[TransformerConfig]] = {
    "eagle": TransformerConfig,
    "falcon": FalconConfig,
    "chimera": ChimeraConfig,
    "adjust": TransformerConfig,
}
"""The kinds that are a `Model` which reads features, and their sizes."""


Sizes = HeadsConfig | TransformerConfig | ScoreConfig
"""Those of heads."""


def sizes_of(kind: str) -> type[Sizes]:
    """The kind of sizes that heads of one of `KINDS` have."""
    if KINDS[kind] is Score:
        return ScoreConfig
    return LAYERS.get(kind, HeadsConfig)


def build_heads(
    kind: str,
    config: Sizes,
    *,
    seed: int = 0,
    abstract: bool = False,
    dtype: jax.typing.DTypeLike | None = None,
) -> tuple[Heads | Model | ScoreHead, Params]:
    """Heads and fresh parameters.

    `Heads` for Medusa and Hydra, a `Model` that reads features for `LAYERS`, a `ScoreHead` for rewards, values and
    judges.

    Args:
      kind: one of `KINDS`.
      config: its sizes, of the type `sizes_of(kind)`.
      seed: of the parameters.
      abstract: whether the parameters are shapes alone.
      dtype: of the cache of a `Model`, float32 if not given; take the target's. Parameters start in float32 anyway.

    Raises:
      ValueError: for a kind or a configuration that is none.
    """
    if kind not in KINDS:
        raise ValueError(f"heads are one of {', '.join(KINDS)}, got {kind!r}")
    make = lambda: KINDS[kind](config, rngs=nnx.Rngs(seed))
    module = nnx.eval_shape(make) if abstract else make()
    if kind in LAYERS:
        return from_nnx(module, dtype=dtype)
    return score_from_nnx(module) if KINDS[kind] is Score else heads_from_nnx(module)


def start_heads(params: Params, target: Params) -> Params:
    """Fresh parameters of heads with the target's embedding and output matrix in all places where they have one.

    Args:
      params: of `build_heads`.
      target: of a `Transformer` of their width and vocabulary.

    Raises:
      ValueError: if the sizes differ.
    """
    embedding = target["embed_tokens"]["embedding"]
    matrix = target["lm_head"]["kernel"] if "lm_head" in target else embedding.T
    place = {"embed_tokens": {"embedding": embedding}, "lm_head": {"kernel": matrix}}

    def put(tree):
        if not isinstance(tree, dict):
            return tree
        return {name: place[name] if name in place else put(part) for name, part in tree.items()}

    started = put(params)
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)
    if shapes(started) != shapes(params):
        vocabulary, width = embedding.shape
        raise ValueError(
            f"the heads' sizes do not fit a target of width {width} with {vocabulary} tokens"
        )
    return started
