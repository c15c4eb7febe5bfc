"""A canvas model as a causal one.

Legend: B rows, T new tokens, V vocabulary.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.model.contract import Inputs, Model, Output, Params


@dataclasses.dataclass(frozen=True)
class _NextToken:
    """Asks a mask after each token, and doubles all numbers to give the masks room between them."""

    model: Model
    mask_token: int

    def __call__(self, params: Params, inputs: Inputs, cache: Any = None) -> Output:
        batch, width = inputs.tokens.shape
        join = lambda a, b: jnp.concatenate([a, b], axis=1)
        query_spans, key_spans = 2 * inputs.query_spans, doubled(inputs.key_spans)
        # A mask sees what the token sees, the token too, and among the masks itself alone.
        between = query_spans + 1
        # Padding may look from the place of a real token: its mask is as invisible as it is itself.
        padding = inputs.key_spans[..., :1] > inputs.key_spans[..., 1:]
        at = jnp.arange(width, dtype=jnp.int32) if inputs.at is None else inputs.at
        asked = Inputs(
            tokens=join(inputs.tokens, jnp.full_like(inputs.tokens, self.mask_token)),
            positions=join(inputs.positions, inputs.positions + 1),
            query_spans=join(query_spans, between),
            key_spans=join(key_spans, jnp.where(padding, visibility.EMPTY, between)),
            at=width + jnp.broadcast_to(at, (batch, at.shape[-1])),
        )
        if cache is not None:
            cache = cache.renumber(doubled)
        output = self.model(params, asked, cache)
        real = jnp.arange(output.logits.shape[-1]) != self.mask_token
        return dataclasses.replace(
            output,
            logits=jnp.where(real, output.logits, -jnp.inf),
            entries=output.entries.first(width),
        )


def doubled(key_spans):
    """A key that was seen from `start` to `stop` is seen from `2 start` to `2 stop + 1`."""
    start, stop = key_spans[..., 0], key_spans[..., 1]
    far = visibility.FOREVER
    start = jnp.where(start >= far, far, 2 * jnp.minimum(start, far // 2 - 1))
    stop = jnp.where(stop >= far, far, 2 * jnp.clip(stop, -far // 2, far // 2 - 1) + 1)
    return jnp.stack([start, stop], axis=-1)


@typed
def next_token(model: Model) -> Model:
    """A canvas model as a causal one: the law after a token is that of a mask at the next position.

    For models that were trained with blocks of one token, in which clean tokens see the clean ones before them alone.
    Every causal decoder then takes the model, speculation included; a forward has two rows a token.

    Args:
      model: of `canvas_model`.

    Raises:
      ValueError: if the model has no mask token, or is `shifted`: the rows of its network are laws of next tokens.

    Exactness: the law of `denoise` with `schedules.blocks(1)` and causal attention.
    """
    if not model.canvas or model.mask_token is None:
        raise ValueError("only a canvas model, which has a mask token, is asked so")
    if model.reads_before:
        raise ValueError(
            "the model is shifted: the rows of its network are laws of next tokens as they are, and need no masks"
        )
    forward = _NextToken(model, model.mask_token)
    return dataclasses.replace(
        model, forward=forward, mask_token=None, causal=True, picks=True, mixes=False
    )
