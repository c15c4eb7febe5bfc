"""Mixtures of experts.

Legend: B rows, T new tokens, D width, E experts, K experts a token, H inner width of an expert, G groups.
"""

import dataclasses
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.models.layers.linear import linear
from jaxdec.models.layers.mlp import ACTIVATIONS, MLP

if TYPE_CHECKING:
    from jaxdec.models.config import TransformerConfig

GATES = ("softmax", "sigmoid")


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Sizes and gate of a mixture of experts.

    Attributes:
      experts: E.
      per_token: K, at most E.
      hidden: H.
      gate: `"softmax"` over all experts, or a `"sigmoid"` of each.
      normalised: whether the K weights of a token are made to sum to one.
      scale: factor of the weights.
      bias: whether a bias of each expert is added to its score for the choice (the weights stay without it).
      groups: G, which divides E: only experts of the best `groups_kept` groups are chosen, a group as good as the
        sum of its two best scores.
      groups_kept: at most G.
      shared_hidden: inner width of an expert that every token goes to; 0 for none.
      first: layers before the first one with a mixture; they have an ordinary unit.
    """

    experts: int
    per_token: int
    hidden: int
    gate: str = "softmax"
    normalised: bool = False
    scale: float = 1.0
    bias: bool = False
    groups: int = 1
    groups_kept: int = 1
    shared_hidden: int = 0
    first: int = 0

    def __post_init__(self):
        for name in ("experts", "per_token", "hidden", "groups", "groups_kept"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.gate not in GATES:
            raise ValueError(f"gate must be one of {GATES}, got {self.gate!r}")
        if self.experts % self.groups or self.groups_kept > self.groups:
            raise ValueError(
                f"groups {self.groups} must divide experts {self.experts}, and hold groups_kept {self.groups_kept}"
            )
        room = self.experts // self.groups * self.groups_kept
        if self.per_token > room:
            raise ValueError(f"per_token must be at most {room}, got {self.per_token}")


def choose(
    logits: jax.Array, mixture: Mixture, bias: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Which experts each token goes to, and with what weights; in float32.

    Args:
      logits: `[N, E]`.
      mixture: the gate.
      bias: `[E]`, or None.

    Returns:
      `(experts int32 [N, K], weights float32 [N, K])`; of equal scores the lower expert is chosen.
    """
    logits = logits.astype(jnp.float32)
    scores = jax.nn.softmax(logits) if mixture.gate == "softmax" else jax.nn.sigmoid(logits)
    ranked = scores if bias is None else scores + bias.astype(jnp.float32)
    if mixture.groups > 1:
        grouped = ranked.reshape(-1, mixture.groups, mixture.experts // mixture.groups)
        best = jax.lax.top_k(grouped, 2)[0].sum(-1)
        kept = jax.lax.top_k(best, mixture.groups_kept)[1]
        open_ = jnp.zeros(best.shape, bool).at[jnp.arange(len(best))[:, None], kept].set(True)
        ranked = jnp.where(open_[..., None], grouped, -jnp.inf).reshape(ranked.shape)
    experts = jax.lax.top_k(ranked, mixture.per_token)[1]
    weights = jnp.take_along_axis(scores, experts, axis=-1)
    if mixture.normalised:
        weights = weights / (weights.sum(-1, keepdims=True) + 1e-20)
    return experts, weights * mixture.scale


class Experts(nnx.Module):
    """A mixture in place of a feed-forward unit: `sum_k w_k expert_k(x)`, and the shared expert if there is one."""

    def __init__(self, config: "TransformerConfig", *, rngs: nnx.Rngs):
        assert config.mixture is not None
        self.mixture, self.activation = config.mixture, config.activation
        experts, hidden, width = self.mixture.experts, self.mixture.hidden, config.width
        self.gate = linear(width, experts, rngs)
        if self.mixture.bias:
            self.gate_bias = nnx.Param(jnp.zeros((experts,), jnp.float32))

        def stack(inputs, outputs, scale=1.0):
            init = nnx.initializers.normal(scale / math.sqrt(inputs))
            return nnx.Param(init(rngs.params(), (experts, inputs, outputs), jnp.float32))

        self.gate_proj, self.up_proj = stack(width, hidden), stack(width, hidden)
        self.down_proj = stack(hidden, width, 1 / math.sqrt(2 * config.layers))
        if self.mixture.shared_hidden:
            self.shared = MLP(config, self.mixture.shared_hidden, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, T, D]` to `[B, T, D]`."""
        flat = x.reshape(-1, x.shape[-1])
        bias = self.gate_bias[...] if self.mixture.bias else None
        experts, weights = choose(self.gate(flat), self.mixture, bias)
        # A few tokens read the weights of their own experts alone; many share each expert's.
        few = experts.size <= self.mixture.experts
        outputs = self._few(flat, experts) if few else self._many(flat, experts)
        mixed = jnp.einsum("nkd,nk->nd", outputs.astype(jnp.float32), weights).astype(x.dtype)
        if self.mixture.shared_hidden:
            mixed = mixed + self.shared(flat)
        return mixed.reshape(x.shape)

    def _few(self, x: jax.Array, experts: jax.Array) -> jax.Array:
        """Outputs `[N, K, D]` of each token's experts, whose weights are gathered."""
        gate, up, down = (
            proj[...][experts] for proj in (self.gate_proj, self.up_proj, self.down_proj)
        )
        act = ACTIVATIONS[self.activation]
        inner = act(jnp.einsum("nd,nkdh->nkh", x, gate)) * jnp.einsum("nd,nkdh->nkh", x, up)
        return jnp.einsum("nkh,nkhd->nkd", inner, down)

    def _many(self, x: jax.Array, experts: jax.Array) -> jax.Array:
        """The same from tokens that are sorted by expert."""
        chosen = experts.reshape(-1)
        order = jnp.argsort(chosen, stable=True)
        sizes = jnp.bincount(chosen, length=self.mixture.experts).astype(jnp.int32)
        rows = x[order // experts.shape[1]]
        act = ACTIVATIONS[self.activation]
        apply = lambda y, proj: jax.lax.ragged_dot(y, proj[...], sizes)
        inner = act(apply(rows, self.gate_proj)) * apply(rows, self.up_proj)
        outputs = apply(inner, self.down_proj)
        back = jnp.zeros_like(outputs).at[order].set(outputs, unique_indices=True)
        return back.reshape(*experts.shape, -1)
