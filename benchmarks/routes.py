"""Where the tokens of some windows go in a mixture of experts, and figures of them with their errors.

Legend: L layers with a mixture, S tokens, K experts a token.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.workload import Prompts
from jaxdec.model import Inputs, Model, Params
from jaxdec.models.layers import guess_next, recorded


class Routes(NamedTuple):
    """Where tokens went; the first one of a window is left out, for it has none before it.

    Attributes:
      prompt: int `[S]`, which window.
      tokens: int `[S]`.
      before: int `[S]`, the token before.
      experts: int `[L, S, K]`.
      next_gate: int `[L - 1, S, K]`, what the layer before guesses, for all layers but the first.
      own_gate: int `[L, S, K]`, what a layer guesses before its attention.
    """

    prompt: np.ndarray
    tokens: np.ndarray
    before: np.ndarray
    experts: np.ndarray
    next_gate: np.ndarray
    own_gate: np.ndarray

    def figure(self, name: str, values: np.ndarray, unit: float = 1.0) -> dict[str, float]:
        """The mean over windows of the means of `[S]` values over their tokens, and twice its standard error."""
        means = unit * np.bincount(self.prompt, values) / np.bincount(self.prompt)
        error = means.std(ddof=1) / np.sqrt(len(means))
        return {name: float(means.mean()), f"{name}_error": float(2 * error)}


@functools.partial(jax.jit, static_argnums=0)
def _experts(model: Model, params: Params, tokens: jax.Array) -> tuple[jax.Array, ...]:
    module = nnx.merge(model.forward.graphdef, params)  # type: ignore[attr-defined]
    every = tuple(range(module.config.layers))
    with recorded() as found:
        states = module(Inputs.causal(tokens), None, every).layer_states
    first = len(every) - len(found)
    own = []
    for layer, x in list(zip(module.layers, states, strict=True))[first:]:
        normed = layer.post_attention_layernorm(x)
        own.append(layer.mlp.chosen(layer.mlp.gate(normed.reshape(-1, x.shape[-1])))[0])
    by_place = lambda x: x.reshape(len(x), *tokens.shape, -1)
    return (
        by_place(jnp.stack([r.experts for r in found])),
        by_place(guess_next(found)),
        by_place(jnp.stack(own)),
    )


def routes(model: Model, params: Params, held: Prompts, batch: int = 16) -> Routes:
    """Reads windows with a causal mixture; each token sees those before it in its window."""
    kept = np.arange(held.tokens.shape[1]) < held.lengths[:, None]
    kept[:, 0] = False
    parts = []
    for start in range(0, len(held), batch):
        rows = np.resize(np.arange(start, min(start + batch, len(held))), batch)
        done = _experts(model, params, jnp.asarray(held.tokens[rows]))
        parts.append([np.asarray(x)[:, : len(held) - start] for x in done])
    every = (np.concatenate(x, axis=1)[:, kept] for x in zip(*parts, strict=True))
    before = np.roll(held.tokens, 1, axis=1)[kept]
    return Routes(np.nonzero(kept)[0], held.tokens[kept], before, *every)
