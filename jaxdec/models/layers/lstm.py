"""Long short-term memory over a sequence or the paths of a tree.

Legend: B rows, T new tokens, I width of the inputs, H width of the states, L layers.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec import visibility


class LSTM(nnx.Module):
    """L layers, each over the outputs of the one before.

        i, f, o = sigmoid(...),  g = tanh(...) of  W x_t + U h_{t-1} + b
        c_t = f c_{t-1} + i g,   h_t = o tanh(c_t)

    States are the h and c of all layers side by side, `[..., 2 L H]`.

    Args:
      inputs: I.
      width: H.
      layers: L.
      rngs: of the parameters.
    """

    def __init__(self, inputs: int, width: int, layers: int, *, rngs: nnx.Rngs):
        self.width, self.count = width, layers
        init = lambda size: nnx.initializers.normal(1 / math.sqrt(size))
        widths = [inputs + width, *[2 * width] * (layers - 1)]
        self.gates = nnx.List(
            [nnx.Linear(size, 4 * width, kernel_init=init(size), rngs=rngs) for size in widths]
        )

    def step(self, x: jax.Array, state: jax.Array) -> jax.Array:
        """The states after inputs `[..., I]` that follow states `[..., 2 L H]`."""
        old, new = jnp.split(state, 2 * self.count, axis=-1), []
        for layer, gate in enumerate(self.gates):
            parts = gate(jnp.concatenate([x, old[2 * layer].astype(x.dtype)], axis=-1))
            i, f, o, g = jnp.split(parts.astype(jnp.float32), 4, axis=-1)
            # A bias of 1 on what is kept: a fresh layer remembers.
            cell = jax.nn.sigmoid(f + 1) * old[2 * layer + 1] + jax.nn.sigmoid(i) * jnp.tanh(g)
            output = jax.nn.sigmoid(o) * jnp.tanh(cell)
            new += [output, cell]
            x = output.astype(x.dtype)
        return jnp.concatenate(new, axis=-1)

    def output(self, states: jax.Array) -> jax.Array:
        """The outputs `[..., H]` of the last layer, of states `[..., 2 L H]`."""
        return states[..., -2 * self.width : -self.width]

    def sequence(self, x: jax.Array, start: jax.Array) -> jax.Array:
        """States `[B, T, 2 L H]` after each of consecutive inputs `[B, T, I]`, from `start [B, 2 L H]`."""

        def step(state, x):
            state = self.step(x, state)
            return state, state

        return jax.lax.scan(step, start, x.swapaxes(0, 1))[1].swapaxes(0, 1)

    def paths(self, x: jax.Array, before: jax.Array, start: jax.Array) -> jax.Array:
        """The same where input t follows input `before [B, T]` of the same row, or `start` where that is -1.

        All inputs are read at once, as often as the longest path is long.
        """
        longest = visibility.ancestors(before).sum(-1).max()
        index = before[..., None] + 1

        def again(_, states):
            held = jnp.concatenate([start[:, None], states], axis=1)
            return self.step(x, jnp.take_along_axis(held, index, axis=1))

        states = jnp.zeros((*x.shape[:2], start.shape[-1]), jnp.float32)
        return jax.lax.fori_loop(0, longest, again, states)
