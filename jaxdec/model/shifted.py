"""Canvas models whose rows predict one position ahead, as networks that were adapted from causal ones do.

Legend: B rows, T new tokens, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model.contract import Inputs, Model, Output, Params


@dataclasses.dataclass(frozen=True)
class _Shifted:
    """Moves the rows of an output to the places that they are about."""

    model: Model

    def __call__(self, params: Params, inputs: Inputs, cache: Any = None) -> Output:
        before = _consecutive(inputs.positions) if inputs.before is None else inputs.before
        if inputs.at is not None:
            before = jnp.take_along_axis(before, inputs.at, axis=1, mode="clip")
        asked = dataclasses.replace(inputs, before=None, at=jnp.maximum(before, 0))
        output = self.model(params, asked, cache)
        # A law that was not computed is no number, so that nobody takes a neighbour's for it.
        move = lambda x: jnp.where((before >= 0)[..., None], x, jnp.nan)
        return dataclasses.replace(
            output,
            logits=move(output.logits),
            hidden=move(output.hidden),
            layer_states=tuple(map(move, output.layer_states)),
        )


def _consecutive(positions: jax.Array) -> jax.Array:
    """`Inputs.before` of tokens in order: the one before, where it stands one position before; int32 `[B, T]`."""
    index = jnp.broadcast_to(jnp.arange(positions.shape[1], dtype=jnp.int32), positions.shape)
    earlier = jnp.pad(positions[:, :-1], ((0, 0), (1, 0)), constant_values=-2)
    before = jnp.where(positions == earlier + 1, index - 1, -1)
    return jnp.where(positions == 0, index, before)


@typed
def shifted(model: Model) -> Model:
    """A canvas model whose network predicts one position ahead, with laws at their places.

        law(x_i) = row i - 1 of the network, with the span that row i - 1 sees with;   law(x_0) = row 0

    So in a model of blocks the law of a block's first token is the network's last row in the block before, which does
    not see the block itself. Decoders see to it that the row before is computed whenever a law is read, over a cache
    too: a step then computes one row more for each run of positions in its group.

    Args:
      model: of `canvas_model`, around a network whose row i was trained to predict position i + 1.

    Raises:
      ValueError: if the model fills no canvas, or is shifted already.

    Exactness: that of the network, with every refresh rule that is exact for it. Source: Dream 2508.15487, Fast-dLLM v2
    2509.26328.
    """
    if not model.canvas:
        raise ValueError(f"the model {model.purpose}; only a canvas model has rows to be shifted")
    if model.reads_before:
        raise ValueError("the model is shifted already")
    return dataclasses.replace(
        model, forward=_Shifted(model), reads_before=True, picks=True, mixes=False
    )


def unshifted(model: Model) -> Model:
    """The canvas model that `shifted` was given; any other model as it is."""
    return model.forward.model if isinstance(model.forward, _Shifted) else model
