"""Drafting with a small model."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.decoding import Request, prefill
from jaxdec.model import Inputs, Model, Output, Params
from jaxdec.order import score
from jaxdec.sampling import perturbed_argmax
from jaxdec.speculative.parts import Committed, Context, Drafter
from jaxdec.speculative.tree import DraftTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Window:
    """The tokens `[B, length + 1]` after the drafter's cache, which of them were scored, and their entries."""

    tokens: jax.Array
    scored: jax.Array
    entries: Any


@dataclasses.dataclass(frozen=True)
class ModelDrafter(Drafter):
    """Draws a chain of `depth` tokens from a small causal model with the target's warp.

    The drafter keeps a cache of its own, which holds committed tokens only. A proposal feeds the committed tokens that
    the cache lacks (the pending token, and the last draft if all were accepted) together with the drafts so far:
    nothing provisional is ever written, and `update` commits the part of the window that was kept.

    Attributes:
      model: the draft model; the target's vocabulary.
      depth: drafts a step, D.
      params_key: the name of its parameters in `params`.
    """

    model: Model
    depth: int
    params_key: str = "draft"

    @property
    def forwards(self) -> int:
        """One forward a draft."""
        return self.depth

    def check(self, request: Request, params: Params, vocab_size: int) -> None:
        """Raises `ValueError` if parameters are missing, or vocabularies or lengths do not match."""
        if self.model.vocab_size != vocab_size:
            raise ValueError(
                f"the draft model has a vocabulary of {self.model.vocab_size}, the target of {vocab_size}"
            )
        if request.order is not None and not self.model.any_subset:
            raise ValueError("the draft model is causal, but the request fills an order of its own")
        if not hasattr(params, "keys") or self.params_key not in params:
            raise ValueError(f"params has no part {self.params_key!r} for the draft model")

    def init(self, params: Params, request: Request, output: Output) -> Any:
        """A cache that holds the prompts but for their last tokens."""
        return prefill(self.model, params[self.params_key], request)

    def propose(self, params: Params, state: Any, context: Context) -> tuple[DraftTree, _Window]:
        """Draws the chain; also returns the window that it was drawn in."""
        rows, cache = context.rows, state
        unseen = rows.length - cache.length  # 1 or 2
        window = rows.window(cache.length, self.depth + 1)
        places = jnp.arange(self.depth + 1)

        def draw(carry, depth):
            window, history = carry
            filled = unseen + depth
            inputs = Inputs.causal(window, cache.length, valid=places < filled[:, None])
            last = filled[:, None] - 1
            output = score(self.model, params[self.params_key], inputs, cache, rows.order, at=last)
            law = context.settings.warp.log_probs(output.logits[:, 0], history)
            token = perturbed_argmax(law, context.noise[:, depth])
            window = jnp.where(places == filled[:, None], token[:, None], window)
            if history is not None:
                history = history.add(token[:, None], jnp.ones((len(token), 1), bool))
            return (window, history), (token, law, output.entries)

        carry = (window, rows.history)
        # The last draw stands outside of the scan: only its entries are wanted, and they cover the whole window.
        carry, (tokens, laws, _) = jax.lax.scan(draw, carry, jnp.arange(self.depth - 1))
        (window, _), (token, law, entries) = draw(carry, jnp.int32(self.depth - 1))
        tokens = jnp.concatenate([tokens, token[None]]).swapaxes(0, 1)
        laws = jnp.concatenate([laws, law[None]]).swapaxes(0, 1)
        scored = places < (unseen + self.depth - 1)[:, None]
        return DraftTree.chain(tokens, q=laws), _Window(window, scored, entries)

    def update(self, state: Any, made: _Window, committed: Committed) -> Any:
        """Commits the scored tokens of the window that were kept, short of the pending one."""
        rows = committed.rows
        places = jnp.arange(self.depth + 1)
        positions = state.length[:, None] + places
        kept = made.scored & (positions < rows.length[:, None] - 1)
        kept &= made.tokens == rows.window(state.length, self.depth + 1)
        count = jnp.cumprod(kept.astype(jnp.int32), axis=1).sum(1)
        index = jnp.broadcast_to(places, positions.shape)
        return state.commit(made.entries, index, count, visibility.causal(positions).lives)


def model(model: Model, *, length: int = 6, params_key: str = "draft") -> ModelDrafter:
    """Drafts `length` tokens a step with a small causal model.

    Args:
      model: a model with the target's vocabulary.
      length: drafts a step, at least 1.
      params_key: the name of its parameters in the `params` of `generate`.

    Raises:
      ValueError: if `length < 1`.
    """
    if length < 1:
        raise ValueError(f"draft length must be at least 1, got {length}")
    return ModelDrafter(model, length, params_key)
