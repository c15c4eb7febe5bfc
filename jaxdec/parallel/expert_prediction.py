"""Which experts a token will go to, guessed before its layer is reached.

A token that is put on the device of its experts before they are known, while its attention is summed over devices,
needs no exchange if the guess was right; if it was wrong it goes the ordinary way, so that nothing is approximated.
Guesses are made of

* the token: experts are chosen by its identity to a large part (`TokenTable`), for all layers at once; by the token
  before it, even before it is drawn;
* the layer before: its input through the gate of the next one (`jaxdec.models.layers.guess_next`);
* the gate itself on the residual before the attention, which is at hand: what loops do that are asked to
  (`jaxdec.models.layers.use_experts("speculative")`; see `expert_shuffle` there).

Tables are for counting what they would save (`jaxdec.parallel.expert_traffic`); no loop reads them. Weights are
resident, so that there is nothing to fetch ahead.

Source: Speculative MoE: speculative token shuffling, and tables of tokens for it; from its abstract.

Legend: L layers with a mixture, E experts, G devices, K experts a token, V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class TokenTable(NamedTuple):
    """How often each token went to each expert; from `token_table`. Its methods are traced or not.

    Attributes:
      counts: float32 `[L, V, E]`; of a token that was never seen, the shares of all tokens.
    """

    counts: jax.Array

    def guess(self, tokens: jax.Array, count: int) -> jax.Array:
        """The experts int32 `[L, ..., count]` that each of the tokens `[...]` went to most often, best first."""
        return jax.lax.top_k(self.counts[:, tokens], count)[1]

    def home(self, tokens: jax.Array, devices: jax.Array, count: int) -> jax.Array:
        """The one device on which most of a token's experts lie, over all layers.

        Args:
          tokens: int `[...]`.
          devices: int `[L, E]`, where experts lie.
          count: G.

        Returns:
          int32 `[...]`.
        """
        held = jax.nn.one_hot(jnp.asarray(devices), count)
        mean = self.counts / jnp.maximum(self.counts.sum(-1, keepdims=True), 1e-9)
        return jnp.einsum("lve,leg->vg", mean, held).argmax(-1).astype(jnp.int32)[tokens]


def token_table(tokens: np.ndarray, experts: np.ndarray, vocab_size: int, count: int) -> TokenTable:
    """Counts where tokens went.

    Args:
      tokens: int `[...]`: the tokens that were routed, or those before them.
      experts: int `[L, ..., K]`; see `jaxdec.models.layers.recorded`.
      vocab_size: V.
      count: E.

    Raises:
      ValueError: for experts of other tokens, or tokens or experts that do not exist.
    """
    tokens, experts = np.asarray(tokens), np.asarray(experts)
    if experts.shape[1:-1] != tokens.shape:
        raise ValueError(f"experts must be [L, {tokens.shape}, K], got {experts.shape}")
    for name, values, limit in (("tokens", tokens, vocab_size), ("experts", experts, count)):
        if not 0 <= values.min() <= values.max() < limit:
            raise ValueError(f"{name} must be 0 to {limit - 1}, got {values.min()}, {values.max()}")
    counts = np.zeros((len(experts), vocab_size, count), np.float32)
    for layer, routed in enumerate(experts):
        np.add.at(counts[layer], (tokens.reshape(-1, 1), routed.reshape(tokens.size, -1)), 1)
    overall = counts.sum(1, keepdims=True) / counts.sum((1, 2), keepdims=True)
    return TokenTable(jnp.asarray(np.where(counts.sum(-1, keepdims=True) > 0, counts, overall)))


def hit_rate(guessed: jax.Array, experts: jax.Array) -> jax.Array:
    """The share `[...]` of a token's experts int `[..., K]` that are among the guessed int `[..., M]`, float32."""
    hits = (guessed[..., None, :] == experts[..., :, None]).any(-1)
    return hits.mean(-1, dtype=jnp.float32)
