"""The arithmetic of a mixture: weighted sums of experts, whose weights lie stacked.

Legend: N tokens, D width, E experts, K experts a token, H inner width of an expert.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.models.layers.mlp import ACTIVATIONS


class Bank(NamedTuple):
    """Weights of some experts.

    Attributes:
      gate: `[E, D, H]`.
      up: `[E, D, H]`.
      down: `[E, H, D]`.
    """

    gate: jax.Array
    up: jax.Array
    down: jax.Array


def weighted_sum(
    x: jax.Array, experts: jax.Array, weights: jax.Array, bank: Bank, activation: str
) -> jax.Array:
    """`sum_k w_k expert_k(x)` over those experts of each token that are in the bank.

    Args:
      x: `[N, D]`.
      experts: int32 `[N, K]`, places in the bank; E or more for one that is not in it, which adds nothing.
      weights: float32 `[N, K]`.
      bank: E experts.
      activation: of `ACTIVATIONS`.

    Returns:
      float32 `[N, D]`; a row depends on its own token alone.
    """
    held = len(bank.gate)
    # A few tokens read the weights of their own experts alone; many share each expert's.
    few = experts.size <= held
    outputs = (_few if few else _many)(x, experts, bank, activation)
    inside = experts < held
    kept = jnp.where(inside[..., None], outputs.astype(jnp.float32), 0.0)
    return jnp.einsum("nkd,nk->nd", kept, jnp.where(inside, weights, 0.0))


def _few(x: jax.Array, experts: jax.Array, bank: Bank, activation: str) -> jax.Array:
    """Outputs `[N, K, D]` of each token's experts, whose weights are gathered."""
    at = jnp.minimum(experts, len(bank.gate) - 1)
    gate, up, down = (proj[at] for proj in bank)
    act = ACTIVATIONS[activation]
    inner = act(jnp.einsum("nd,nkdh->nkh", x, gate)) * jnp.einsum("nd,nkdh->nkh", x, up)
    return jnp.einsum("nkh,nkhd->nkd", inner, down)


def _many(x: jax.Array, experts: jax.Array, bank: Bank, activation: str) -> jax.Array:
    """The same from tokens that are sorted by expert; those of other banks stand last, in no group."""
    chosen = experts.reshape(-1)
    order = jnp.argsort(chosen, stable=True)
    sizes = jnp.zeros((len(bank.gate),), jnp.int32).at[chosen].add(1, mode="drop")
    rows = x[order // experts.shape[1]]
    act = ACTIVATIONS[activation]
    apply = lambda y, proj: jax.lax.ragged_dot(y, proj, sizes)
    inner = act(apply(rows, bank.gate)) * apply(rows, bank.up)
    outputs = apply(inner, bank.down)
    back = jnp.zeros_like(outputs).at[order].set(outputs, unique_indices=True)
    return back.reshape(*experts.shape, -1)
