"""States of linear recurrences after each new token, where tokens may be shared out over devices.

    S_t = a_t S_{t-1} + M_t,   a_t a number, or one an entry of the state

as in linear attention, with M_t = k_t v_t^T. A network computes the states of its new tokens as if nothing came before
them, and the products of their decays; `continue_states` adds what did come before: the committed state, and the
tokens of the devices before this one.

Legend: B rows, T new tokens of this device, n devices.

Source: 2502.07563 (LASP-2, `gather`), 2507.01004 (ZeCO, `chain`).
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from pallas_kernels.span_attention import devices_along, sharing

BLOCKS = 4
"""Parts of a state that follow one another along the chain."""


def continue_states(states: Any, decays: Any, start: Any) -> Any:
    """States after each new token, given what came before the first one.

        S_t = S'_t + (a_1 ... a_t) S_0

    S_0 is `start`, or the state after the tokens of the devices before, within `tokens_split`: each device then has
    consecutive tokens, device after device. `gather` moves all states at once, the rings pass them along a chain.

    Args:
      states: S', a pytree of arrays `[B, T, ...]`: those of a recurrence that starts from zeros.
      decays: a_1 ... a_t, of the same structure; arrays that broadcast against the states.
      start: the committed state, arrays `[B, ...]`; the same on all devices.

    Returns:
      Arrays `[B, T, ...]`.
    """
    shared = sharing()
    if shared is not None:
        last = lambda tree: jax.tree.map(lambda x: x[:, -1], tree)
        form: Literal["gather", "chain"] = "gather" if shared.form == "gather" else "chain"
        start = state_before(last(states), last(decays), start, shared.axis, form)
    return jax.tree.map(lambda x, decay, first: x + decay * first[:, None], states, decays, start)


def state_before(
    states: Any, decays: Any, start: Any, axis: str, form: Literal["gather", "chain"] = "gather"
) -> Any:
    """The state before the tokens of this device, from what each device's tokens do to a state.

        S_0 = start,   S_{r+1} = A_r S_r + M_r   after the tokens of device r

    `gather` is one all-gather of M and A, and a weighted sum. `chain` passes S on from device to device in blocks, each
    as soon as it is there: a state over each link, and n + 2 steps.

    Args:
      states: M, a pytree of arrays `[B, ...]` in float32: the state after the tokens of this device alone.
      decays: A, of the same structure; arrays that broadcast against the states: the product of its tokens' decays.
      start: of the same structure as `states`, the same on all devices.
      axis: name of the mesh axis, manual in the enclosing `jax.shard_map`.
      form: what travels.

    Raises:
      ValueError: outside of a `jax.shard_map` over the axis, or for another form.
    """
    if form not in ("gather", "chain"):
        raise ValueError(f"form must be gather or chain, got {form!r}")
    devices = devices_along(axis)
    if devices == 1:
        return start
    if form == "gather":
        return _gather(states, decays, start, axis, devices)
    chain = lambda x, decay, first: _chain(
        x, jnp.broadcast_to(decay, x.shape), first, axis, devices
    )
    return jax.tree.map(chain, states, decays, start)


def _gather(states: Any, decays: Any, start: Any, axis: str, devices: int) -> Any:
    leaves, tree = jax.tree.flatten((states, decays))
    flat = jnp.concatenate([x.reshape(x.shape[0], -1) for x in leaves], axis=1)
    flat = jax.lax.all_gather(flat, axis)  # of everything: one collective
    ends, parts = 0, []
    for x in leaves:
        size = x[0].size
        parts.append(flat[..., ends : ends + size].reshape(devices, *x.shape))
        ends += size
    before = jnp.arange(devices, dtype=jnp.int32) < jax.lax.axis_index(axis)

    def total(x: jax.Array, decay: jax.Array, first: jax.Array) -> jax.Array:
        earlier = before.reshape(-1, *(1,) * first.ndim)
        # Decays of the devices between each one and this one; `through` has those of all that come before.
        later = jnp.cumprod(jnp.where(earlier, decay, 1.0)[::-1], axis=0)[::-1]
        through = later[0]
        between = jnp.concatenate([later[1:], jnp.ones_like(later[:1])])
        return jnp.where(earlier, between * x, 0.0).sum(0) + through * first

    return jax.tree.map(total, *jax.tree.unflatten(tree, parts), start)


def _chain(x: jax.Array, decay: jax.Array, first: jax.Array, axis: str, devices: int) -> jax.Array:
    """Block k is at device r in step r + k, and at the next one in the step after."""
    shape, rest = x.shape, -x.size % BLOCKS
    blocks = lambda x: jnp.pad(x.reshape(-1), (0, rest)).reshape(BLOCKS, -1)
    x, decay, first = blocks(x), blocks(decay), blocks(jnp.broadcast_to(first, shape))
    device = jax.lax.axis_index(axis).astype(jnp.int32)
    onward = [(i, i + 1) for i in range(devices - 1)]

    def step(number: jax.Array, held: jax.Array) -> jax.Array:
        block = jnp.clip(number - device, 0, BLOCKS - 1)
        at = lambda x: jax.lax.dynamic_index_in_dim(x, block, keepdims=False)
        coming = jax.lax.ppermute(at(decay) * at(held) + at(x), axis, onward)
        block = number - device + 1
        there = (device > 0) & (block >= 0) & (block < BLOCKS)
        return held.at[jnp.where(there, block, BLOCKS)].set(coming, mode="drop")

    held = jnp.where(device == 0, first, jnp.zeros_like(first))
    held = jax.lax.fori_loop(0, devices + BLOCKS - 2, step, held)
    return held.reshape(-1)[: held.size - rest].reshape(shape)
