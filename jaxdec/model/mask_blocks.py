"""A causal model with a block of masks after each new token: TiDAR's two roles in one forward.

Legend: B rows, T new tokens, A tokens after which laws are wanted, K masks of a block, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.model.contract import Inputs, Model, Output, Params
from jaxdec.model.next_token import doubled


@dataclasses.dataclass(frozen=True)
class MaskBlocks:
    """The forward of `mask_blocks`.

    Attributes:
      model: whose rows are causal, and whose masks say what stands at their own places.
      mask_token: of it.
      size: K.
    """

    model: Model
    mask_token: int
    size: int

    def __call__(self, params: Params, inputs: Inputs, cache: Any = None) -> Output:
        """Tokens as ever, and masks in the numbers between theirs, that no token sees."""
        batch, width = inputs.tokens.shape
        own = jnp.arange(width, dtype=jnp.int32) if inputs.at is None else inputs.at
        own = jnp.broadcast_to(own, (batch, own.shape[-1]))
        drafts, wanted = self.size - 1, own.shape[1]
        if width > self.size:  # a prompt, which nothing is drafted after
            output = self.model(params, dataclasses.replace(inputs, at=own), cache)
            blocks = jnp.zeros((batch, wanted, drafts * self.model.vocab_size), jnp.float32)
            return self._apart(output, blocks, width, wanted)
        join = lambda a, b: jnp.concatenate([a, b], axis=1)
        each = lambda x: jnp.repeat(x, self.size, axis=1)
        # A block sees what its token sees, the token too, and itself: one number for all its masks.
        between = 2 * inputs.query_spans + 1
        padding = inputs.key_spans[..., :1] > inputs.key_spans[..., 1:]
        ahead = jnp.tile(jnp.arange(1, self.size + 1, dtype=jnp.int32), width)
        masks = jnp.full((batch, width * self.size), self.mask_token, jnp.int32)
        rows = width + own[..., None] * self.size + jnp.arange(1, self.size, dtype=jnp.int32)
        asked = Inputs(
            tokens=join(inputs.tokens, masks),
            positions=join(inputs.positions, each(inputs.positions) + ahead),
            query_spans=join(2 * inputs.query_spans, each(between)),
            key_spans=join(
                doubled(inputs.key_spans), each(jnp.where(padding, visibility.EMPTY, between))
            ),
            at=join(own, rows.reshape(batch, -1)),
        )
        if cache is not None:
            cache = cache.renumber(doubled)
        output = self.model(params, asked, cache)
        real = jnp.arange(output.logits.shape[-1]) != self.mask_token
        blocks = jnp.where(real, output.logits[:, wanted:], -jnp.inf)
        return self._apart(output, blocks.reshape(batch, wanted, -1), width, wanted)

    def _apart(self, output: Output, blocks: jax.Array, width: int, wanted: int) -> Output:
        """The output of the tokens alone, and the blocks as a further layer state."""
        first = lambda x: x[:, :wanted]
        return Output(
            logits=first(output.logits),
            hidden=first(output.hidden),
            layer_states=(*map(first, output.layer_states), blocks),
            entries=output.entries.first(width),
        )


@typed
def mask_blocks(model: Model, mask_token: int, *, size: int = 8) -> Model:
    """A causal model that also says, in the same forward, what K masks after each of a few new tokens would hold.

        logits_t = law after token t;   last layer state = logits of masks 2 to K of the block that hangs off token t

    A block sees the text up to its token and itself, both ways; no token sees a mask, so that laws and cache are those
    of the model alone. For models trained in two roles, one forward of clean text and masks; `drafters.mask_block`
    reads the blocks. Forwards of more than K tokens, which read prompts, have none: zeros.

    Args:
      model: causal; at the place of a mask it says what stands there.
      mask_token: which it was trained with; no block says it.
      size: K, at least 2. The first mask of a block stands where the model's own next token does, which is better.

    Raises:
      ValueError: for a model that is not causal, a mask outside of the vocabulary, or a size below 2.

    Exactness: laws and cache are the model's. T K rows more in a forward.

    Source: TiDAR 2511.08923; masks that predict the token after their place, as some of its models' may, are missing.
    """
    if not model.causal or model.canvas:
        raise ValueError(f"blocks of masks hang off a causal model; this model {model.purpose}")
    if not 0 <= mask_token < model.vocab_size:
        raise ValueError(
            f"mask_token is {mask_token}, outside the vocabulary of {model.vocab_size}"
        )
    if size < 2:
        raise ValueError(f"size must be at least 2, got {size}")
    forward = MaskBlocks(model, mask_token, size)
    return dataclasses.replace(model, forward=forward, any_subset=False, picks=True, mixes=False)
