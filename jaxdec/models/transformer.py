"""A transformer that meets the model contract, in the forms that `TransformerConfig` lists.

Modules are named as in Llama checkpoints, and each kernel is the transpose of the checkpoint's weight, so that weights
map one to one. Visibility comes from spans alone: the same network serves as causal, masked, block-diffusion and
any-subset model.

Legend: B rows, T new tokens, D width, V vocabulary.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.cache import Cache, KVEntries, LayerEntries
from jaxdec.model import Inputs, Output
from jaxdec.models.config import TransformerConfig
from jaxdec.models.layers import MLP, Attention, Experts, Norm, committed, empty_cache, linear, rows
from jaxdec.models.layers.expert_shuffle import shuffled, shuffles
from jaxdec.models.layers.passing import passed
from pallas_kernels.span_attention import Keys


class Block(nnx.Module):
    """One residual layer, with its norms where `config.placement` says."""

    def __init__(self, config: TransformerConfig, layer: int = 0, *, rngs: nnx.Rngs):
        self.placement = config.placement
        self.input_layernorm = Norm(config, rngs=rngs)
        self.self_attn = Attention(config, config.kind(layer), rngs=rngs)
        self.post_attention_layernorm = Norm(config, rngs=rngs)
        mixed = config.mixture is not None and layer >= config.mixture.first
        self.mlp = (Experts if mixed else MLP)(config, rngs=rngs)
        if config.placement == "sandwich":
            self.attention_output_norm = Norm(config, rngs=rngs)
            self.mlp_output_norm = Norm(config, rngs=rngs)

    def __call__(self, x: jax.Array, inputs: Inputs, *earlier: Keys):
        """Maps `x [B, T, D]` to `(x, entries)`."""
        if self.placement == "post":
            mixed, entries = self.self_attn(x, inputs, *earlier)
            x = self.input_layernorm(x + mixed)
            return self.post_attention_layernorm(x + self.mlp(x)), entries
        if self.placement == "pre" and shuffles(unit := self.mlp, self.self_attn):
            mixed, entries = self.self_attn.mixed(self.input_layernorm(x), inputs, *earlier)
            norm = self.post_attention_layernorm
            return shuffled(x, mixed, self.self_attn.o_proj, norm, unit), entries
        mixed, entries = self.self_attn(self.input_layernorm(x), inputs, *earlier)
        if self.placement == "sandwich":
            x = x + self.attention_output_norm(mixed)
            return x + self.mlp_output_norm(self.mlp(self.post_attention_layernorm(x))), entries
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), entries

    def entries(self, x: jax.Array, inputs: Inputs) -> LayerEntries:
        """Keys and values of states that pass the block by."""
        x = x if self.placement == "post" else self.input_layernorm(x)
        return self.self_attn.entries(x, inputs.positions)


class Transformer(nnx.Module):
    """The network: `module(inputs, cache) -> Output`.

    Raises:
      ValueError: from the config, if heads or widths do not fit together.
    """

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        self.config = config
        embed = lambda count: nnx.Embed(
            count, config.width, embedding_init=nnx.initializers.normal(0.02), rngs=rngs
        )
        self.embed_tokens = embed(config.vocab_size)
        if config.positions == "learned":
            self.embed_positions = embed(config.max_length)
        self.layers = nnx.List([Block(config, i, rngs=rngs) for i in range(config.layers)])
        if config.placement != "post":
            self.norm = Norm(config, rngs=rngs)
        if not config.tied:
            self.lm_head = linear(config.width, config.vocab_size, rngs)
        if config.head_bias:
            self.head_bias = nnx.Param(jnp.zeros((config.vocab_size,), jnp.float32))

    init_cache = staticmethod(empty_cache)
    picks = True
    mixes = True

    def __call__(
        self,
        inputs: Inputs,
        cache: Cache | None = None,
        layer_states: tuple[int, ...] = (),
        layers: int | None = None,
        runs: Callable[[int, jax.Array], jax.Array] | None = None,
    ) -> Output:
        """Scores new tokens; see `jaxdec.model`.

        Args:
          inputs: T new tokens (or embeddings `[B, T, D]`); the head is read for those that are wanted alone.
          cache: committed tokens, only read; None scores the new tokens on their own.
          layer_states: layers (0 is the embedding) whose hidden states are returned.
          layers: how many blocks run before the final norm and the head; all of them for None.
          runs: `(block, states [B, T, D] before it) -> [B, T]`, for which tokens each block runs (`passed`), asked in
            the order of the blocks; None for all.
        """
        x = self.embed(inputs)
        entries, states = [], [x]
        for i, block in enumerate(list(self.layers)[:layers]):
            if runs is None:
                x, entry = block(x, inputs, *committed(cache, i))
            else:
                x, entry = passed(block, x, inputs, committed(cache, i), runs(i, x))
            entries.append(entry)
            states.append(x)
        x = inputs.wanted(x)
        hidden = x if self.config.placement == "post" else self.norm(x)
        return Output(
            logits=self.head(hidden),
            hidden=hidden,
            layer_states=tuple(inputs.wanted(states[i]) for i in layer_states),
            entries=KVEntries(tuple(entries), inputs.positions),
        )

    def embed(self, inputs: Inputs) -> jax.Array:
        """The residual stream before the first block, `[B, T, D]`."""
        config, x, mixture = self.config, inputs.tokens, inputs.mixture
        if jnp.issubdtype(x.dtype, jnp.integer):
            x = rows(self.embed_tokens, x if mixture is None else mixture.tokens)
            if mixture is not None:
                mixed = jnp.einsum("btk,btkd->btd", mixture.weights, x.astype(jnp.float32))
                x = mixed.astype(x.dtype)
            if config.embedding_scale != 1.0:
                x = x * jnp.asarray(config.embedding_scale, x.dtype)
        if config.positions == "learned":
            x = x + rows(self.embed_positions, inputs.positions)
        return x

    def head(self, hidden: jax.Array) -> jax.Array:
        """Logits, float32 `[B, T, V]`, of normed states; products of bfloat16 are summed in float32."""
        config = self.config
        kernel = self.embed_tokens.embedding[...].T if config.tied else self.lm_head.kernel[...]
        logits = jnp.dot(hidden, kernel, preferred_element_type=jnp.float32)
        if config.head_bias:
            logits = logits + self.head_bias[...].astype(jnp.float32)
        if config.logit_scale != 1.0:
            logits = logits * config.logit_scale
        if config.logit_softcap is not None:
            logits = config.logit_softcap * jnp.tanh(logits / config.logit_softcap)
        return logits
