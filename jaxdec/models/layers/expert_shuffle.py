"""Tokens that are sent to their experts before these are known.

Where heads and experts lie over one axis, an attention layer ends in a sum over its devices and a mixture begins by
sending tokens about. With the form `"speculative"` these are one operation: the sum of a token's attention is made on
the device where its best expert is guessed to be, by this layer's gate on the residual before the attention, and
nowhere else. There the token is normed, its experts are chosen, and the mixture goes on from there
(`expert_parallel.dispatch`): a guess that was right saves an exchange, one that was wrong costs one, and neither
changes a token. An all-gather of the residual ends the layer.

    reduce-scatter + all-to-alls of what was wrong + all-gather,   against two all-reduces:
    2 (G - 1) / G vectors a token and device, and the all-to-alls', against 4 (G - 1) / G

Guesses save less than they could: a round has one capacity for all pairs of devices, of which the fullest decides
(benchmark case `experts`). What is not here: an overlap of the exchange with the attention; one guess for several
layers, since the attention of the next layer needs every token on all devices of the axis; a shared expert, whose inner
numbers are split and which needs all tokens likewise.

Source: Speculative MoE, "speculative token shuffling"; from its abstract, the guess is this package's.

Legend: B rows, T new tokens, N = B T, D width, E experts, G devices of the axis, S = N / G.
"""

from typing import TYPE_CHECKING, Any, TypeGuard

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P

from jaxdec.models.layers.attention import Attention
from jaxdec.models.layers.expert_parallel import AXIS, by_device, devices_of, dispatch, form_of
from jaxdec.models.layers.experts import Bank
from jaxdec.models.layers.mixture import Experts

if TYPE_CHECKING:
    from jaxdec.models.layers.norm import Norm


def shuffles(unit: nnx.Module, attention: Attention) -> TypeGuard[Experts]:
    """Whether a layer takes the form `"speculative"` here: it was asked for, and heads and experts lie over devices."""
    if not isinstance(unit, Experts) or unit.mixture.shared_hidden:
        return False
    devices = devices_of(unit.mixture.experts)
    if devices == 1 or form_of(0, unit.mixture.per_token, devices) != "speculative":
        return False
    return attention.config.heads % devices == 0


def shuffled(
    x: jax.Array, mixed: jax.Array, project: nnx.Linear, norm: "Norm", layer: Experts
) -> jax.Array:
    """The rest of a layer after its heads: `y + layer(norm(y))` with `y = x + project(mixed)`.

    Args:
      x: `[B, T, D]`, the residual before the layer.
      mixed: `[B, T, H d]`, what the heads found.
      project: of the attention.
      norm: before the mixture.
      layer: the mixture, without a shared expert.

    Returns:
      `[B, T, D]`; equal to one device up to the order of sums in floats.
    """
    devices = devices_of(layer.mixture.experts)
    graphs, params = zip(*map(nnx.split, (project, norm, layer)), strict=True)
    params = tuple(map(nnx.to_pure_dict, params))
    specs: Any = (
        {name: P(AXIS) if name == "kernel" else P() for name in params[0]},
        P(),
        {name: P(AXIS) if name.endswith("_proj") else P() for name in params[2]},
    )

    def body(x, mixed, params):
        project, norm, layer = map(nnx.merge, graphs, params)
        bank = Bank(layer.gate_proj[...], layer.up_proj[...], layer.down_proj[...])
        guess = layer.chosen(layer.gate(norm(x)))[0][:, 0] // len(bank.gate)
        order = by_device(guess, devices)
        mine = order.reshape(devices, -1)[jax.lax.axis_index(AXIS)]
        partial = jnp.dot(mixed, project.kernel[...].astype(mixed.dtype)).astype(x.dtype)
        partial = jnp.take(partial, order, axis=0, mode="clip")
        y = jnp.take(x, mine, axis=0, mode="clip")
        y = y + jax.lax.psum_scatter(partial, AXIS, tiled=True)
        if project.bias is not None:
            y = y + project.bias[...].astype(y.dtype)
        normed = norm(y)
        experts, weights = layer.chosen(layer.gate(normed))
        y = y + dispatch(normed, experts, weights, bank, layer.activation)
        every = jax.lax.all_gather(y, AXIS, tiled=True)
        return jnp.zeros_like(x).at[order].set(every, mode="drop")

    mapped = jax.shard_map(
        body,
        in_specs=(P(), P(None, AXIS), specs),
        out_specs=P(),
        axis_names={AXIS},
        check_vma=False,
    )
    flat = lambda a: a.reshape(-1, a.shape[-1])
    return mapped(flat(x), flat(mixed), params).reshape(x.shape)
