"""A small network over the states of a forward, which makes its tokens depend on each other: ADJUST.

Legend: B rows, W positions of the active group, D width, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.decoding import Knob, Scored
from jaxdec.diffusion.canvas import at_token
from jaxdec.diffusion.contract import Knobs, knob_default
from jaxdec.diffusion.joint.contract import Joint, Revealed
from jaxdec.model import Inputs, Model, Params


@dataclasses.dataclass(frozen=True)
class Adjust(Joint):
    """See `adjust`."""

    model: Model
    number: int
    bounded: bool
    tokens: int = knob_default()
    mask_token: int = 0
    name: str = "joint"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`joint_tokens`: steps that a forward serves."""
        return {"joint_tokens": Knob(self.tokens, 1, self.number, integer=True)}

    def check_model(self, model: Model) -> None:
        """Raises `ValueError` for a canvas model of other tokens than the network's."""
        if not model.canvas:
            raise ValueError(f"adjust goes on from states of masks, and the model {model.purpose}")
        if self.model.vocab_size != model.vocab_size:
            raise ValueError(
                f"the canvas model has {model.vocab_size} tokens, the network of adjust {self.model.vocab_size}"
            )

    def steps(self, knobs: Knobs, batch: int) -> jax.Array:
        """As `joint_tokens` says."""
        return knobs["joint_tokens"]

    def further(
        self, params: Params, first: Scored, last: Scored, revealed: Revealed, knobs: Knobs
    ) -> Scored:
        """From the states of the last step and the tokens of the group."""
        spans = visibility.full(revealed.places).where(revealed.there)
        tokens = jnp.where(revealed.known, revealed.tokens, self.mask_token)
        inputs = Inputs(tokens, revealed.places, *spans, features=last.hidden)
        output = self.model(params, inputs, None)
        logits = output.logits.astype(jnp.float32)
        if self.bounded:
            logits = bounded(logits, first.logits, revealed)
        # What the forward rules out stays so: the mask, and tokens that are banned.
        logits = jnp.where(jnp.isneginf(first.logits), -jnp.inf, logits)
        hidden = output.hidden.astype(last.hidden.dtype)
        return dataclasses.replace(last, logits=logits, hidden=hidden)


def bounded(logits: jax.Array, first: jax.Array, revealed: Revealed) -> jax.Array:
    """Log-probabilities within what joint laws with the forward's own marginals allow, float32 `[B, W, V]`.

        (p - 1 + pi) / pi <= p' <= p / pi,   pi = prod of p over the tokens that were committed since the forward

    A bound for one token; for several, one as if their probability were the product of theirs.

    Args:
      logits: of p'.
      first: logits of p, the forward's.
      revealed: the group.
    """
    law = jax.nn.log_softmax(first)
    held = jnp.where(revealed.new, at_token(law, revealed.tokens), 0.0)
    share = jnp.exp(held.sum(-1))[:, None, None]
    own, least = jnp.exp(law), jnp.finfo(jnp.float32).tiny
    low = jnp.maximum((own - 1 + share) / jnp.maximum(share, least), 0.0)
    high = jnp.minimum(own / jnp.maximum(share, least), 1.0)
    within = jnp.clip(jax.nn.softmax(logits), low, high)
    total = within.sum(-1, keepdims=True)
    # Without any mass between the bounds the marginals themselves are left.
    return jnp.where(total > 0, jnp.log(within) - jnp.log(jnp.maximum(total, least)), law)


@typed
def adjust(
    model: Model,
    *,
    mask_token: int,
    tokens: int = 4,
    bounded: bool = False,
    name: str = "joint",
) -> Adjust:
    """Several steps a forward, each after the first with laws that a small network makes of states and new tokens.

        h^0, l^0 = forward(canvas);   commit by the policy;   h^r, l^r = network(tokens of the group, h^{r-1});   ...

    so that with one position a step a forward commits K tokens, and token r + 1 depends on tokens 1 to r.

    Args:
      model: reads features `[B, W, D]`, the canvas model's hidden states, beside tokens (`models.Adjust`).
      mask_token: what it is fed where no token is known; the canvas model's.
      tokens: K, at most (knob `joint_tokens`).
      bounded: whether its probabilities are kept between the bounds of Frechet, which need laws at temperature 1.
      name: of its parameters in the `params` of `generate`.

    Raises:
      ValueError: for fewer tokens than one.

    The network sees the active group alone; what else is known is in the states.

    Exactness: heuristic. `joint_tokens` 1 is the decoder without it; a network that gives what a forward would gives
    the tokens of as many forwards.

    Source: ADJUST 2509.22738 (one position a step by the entropy of the current laws: `unmask.quota("entropy")`).
    """
    if tokens < 1:
        raise ValueError(f"adjust needs at least 1 token a forward, got {tokens}")
    return Adjust(model, tokens, bounded, tokens, mask_token, name)
