"""Mixtures of experts.

Legend: B rows, T new tokens, D width, E experts, K experts a token, H inner width of an expert, G groups.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P

from jaxdec.arguments import check_fields
from jaxdec.models.layers import routing
from jaxdec.models.layers.expert_parallel import AXIS, devices_of, over_devices
from jaxdec.models.layers.experts import Bank, weighted_sum
from jaxdec.models.layers.linear import linear
from jaxdec.models.layers.mlp import MLP

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
        check_fields(self)
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
        """Maps `[B, T, D]` to `[B, T, D]`; under a mesh, see `expert_parallel`."""
        flat = x.reshape(-1, x.shape[-1])
        logits = self.gate(flat)
        experts, weights = self.chosen(logits)
        routing.note(routing.Routed(self, x, logits, experts))
        bank = Bank(self.gate_proj[...], self.up_proj[...], self.down_proj[...])
        if devices_of(self.mixture.experts) > 1:
            shared = self._splittable(devices_of(self.mixture.experts))
            mixed = over_devices(flat, experts, weights, bank, self.activation, shared)
        else:
            shared = None
            mixed = weighted_sum(flat, experts, weights, bank, self.activation).astype(x.dtype)
        if self.mixture.shared_hidden and shared is None:
            mixed = mixed + self.shared(flat)
        return mixed.reshape(x.shape)

    def chosen(self, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`choose` by this layer's gate, of its logits `[N, E]`."""
        return choose(logits, self.mixture, self.gate_bias[...] if self.mixture.bias else None)

    def _splittable(self, devices: int) -> Any:
        """The shared expert as `over_devices` takes it, split by its inner numbers; None if it has to be whole."""
        hidden = self.mixture.shared_hidden
        if not hidden or hidden % devices or self.shared.up_proj.bias is not None:
            return None
        graphdef, state = nnx.split(self.shared)
        params = nnx.to_pure_dict(state)
        rows = {"down_proj"}
        specs = {name: {"kernel": P(AXIS) if name in rows else P(None, AXIS)} for name in params}
        return lambda params, x: nnx.merge(graphdef, params)(x), params, specs
