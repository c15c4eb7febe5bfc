"""As many drafts from the left as a small causal model agrees with: guided diffusion.

Legend: B rows, L positions of the canvas, W positions of the active group, C tokens of a chunk, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.decoding import Knob, Request, after, check_serves, prefill
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.canvas import at_token, put, take
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.model import Inputs, Model, Params


@dataclasses.dataclass(frozen=True)
class Guider(Unmask):
    """See `guider`."""

    model: Model
    chunk: int
    draws: bool
    likeliest: int = knob_default()
    share: float = knob_default()
    least: float = knob_default()
    name: str = "guider"

    forwards = 1
    reads_text = True
    value_dependent = True

    @property
    def least_vocabulary(self) -> int:  # type: ignore[override]
        """The model's."""
        return self.model.vocab_size

    @property
    def knobs(self) -> dict[str, Knob]:
        """`guider_top`, `guider_share` and `guider_least`."""
        return {
            "guider_top": Knob(self.likeliest, 1, integer=True),
            "guider_share": Knob(self.share, 0, 1),
            "guider_least": Knob(self.least, 0, 1),
        }

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a request with an order or too long for the model, or missing parameters."""
        super().check(request, params)
        if request.order is not None:
            raise ValueError("a guider reads text from left to right, and the request has an order")
        check_serves("guider", self.model, self.own(params), request)

    def begin(self, params: Params, request: Request, state: Any) -> Any:
        """A cache that holds the prompts but for their last tokens, with room for a chunk behind the canvas."""
        wide = dataclasses.replace(request, capacity=request.capacity + self.chunk)
        return prefill(self.model, params, wide)

    def renew(self, params: Params, state: Any, fresh: Any) -> Any:
        """The same cache."""
        return state

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """The leading drafts that the model agrees with, the first in any case; the cache reads what is committed."""
        assert seen.canvas is not None
        canvas = seen.canvas
        there = seen.allowed | seen.committed
        draft = put(canvas.tokens, seen.places, seen.tokens, there)
        known = put(canvas.committed, seen.places, there, there) & canvas.exists
        # The causal law says nothing of what stands behind a position that is not known.
        read = jnp.cumsum(~known, axis=1) == 0
        fed = state.length[:, None] + jnp.arange(self.chunk, dtype=jnp.int32)
        inside = lambda at: take(read, at) & (at < read.shape[1])
        inputs = Inputs.causal(take(draft, fed), state.length, valid=inside(fed))
        output = self.model(params, inputs, state)
        judged = self._judged(output.logits, take(draft, fed + 1), knobs)
        verdict = jnp.where(inside(fed + 1), judged, -1)
        verdict = put(jnp.full(draft.shape, -1.0), fed + 1, verdict, fed + 1 < read.shape[1])
        verdict = take(verdict, seen.places)
        agreed = (seen.coins() < verdict) if self.draws else (verdict >= 0)
        leading = jnp.cumsum(seen.allowed & ~agreed, axis=1) == 0
        first = seen.allowed & (jnp.cumsum(seen.allowed, axis=1) == 1)
        reveal = seen.allowed & (leading | first)
        return reveal, self._read(state, output, fed, canvas.committed, seen, reveal)

    def _judged(self, logits: jax.Array, tokens: jax.Array, knobs: Knobs) -> jax.Array:
        """The probability of each token `[B, C]` where it is among the likely ones, else -1."""
        law = jax.nn.softmax(logits.astype(jnp.float32))
        own, best = at_token(law, tokens), law.max(-1)
        knob = lambda name: knobs[name][:, None]
        likely = (law > own[..., None]).sum(-1) < knob("guider_top")
        likely &= (own >= knob("guider_share") * best) & (own >= knob("guider_least"))
        return jnp.where(likely, own, -1.0)

    def _read(
        self,
        cache: Any,
        output: Any,
        fed: jax.Array,
        committed: jax.Array,
        seen: Candidates,
        reveal: jax.Array,
    ) -> Any:
        """The cache with what was fed of the committed text, but for its last token, which is fed again."""
        new = reveal | seen.committed
        held = put(committed, seen.places, new, new)
        length = (jnp.cumsum(~held, axis=1) == 0).sum(1, dtype=jnp.int32)
        count = jnp.clip(length - 1 - cache.length, 0, self.chunk)
        # The forward reads the cache before it is written.
        count = after(count, output.logits)
        index = jnp.broadcast_to(jnp.arange(self.chunk, dtype=jnp.int32), fed.shape)
        return cache.commit(output.entries, index, count, visibility.causal(fed).key_spans)


@typed
def guider(
    model: Model,
    *,
    chunk: int = 32,
    top: int = 5,
    share: float = 0.0,
    least: float = 0.0,
    draws: bool = False,
    name: str = "guider",
) -> Guider:
    """The drafts of the leftmost masks, as many as a causal model agrees with, and at least one: guided diffusion.

        x_i ~ q_i for all masks, in order i = 1, 2, ...;   commit x_1 .. x_max(a, 1),   a = max n: x_1 .. x_n all agree
        x_i agrees  iff  fewer than k tokens are likelier under p,  p(x_i) >= share max p,  p(x_i) >= least,
                         and, if it draws, u < p(x_i);                  p = p(. | text, x_1 .. x_{i-1})

    The causal model writes no token: it says how far tokens that were drawn apart from one another go together. It
    reads a chunk a step, over a cache of the committed text.

    Args:
      model: causal, of the canvas model's vocabulary (the mask may be missing).
      chunk: C, tokens that it reads in a step: drafts and what its cache lacks, the last committed token at least.
      top: k (knob `guider_top`); 1 for its most probable token alone.
      share: of the highest probability (knob `guider_share`).
      least: probability (knob `guider_least`).
      draws: whether a draft is kept with its probability under the model.
      name: of its parameters in the `params` of `generate`.

    Raises:
      ValueError: for a model that is not causal, a chunk of fewer than 2 tokens, `top` below 1, or a share or a least
        probability outside of [0, 1].

    A step costs a forward of the causal model over C tokens, counted as one of a draft model. Groups are filled from
    the left; where the text before a mask is not known, as in scattered groups, it commits one position a step.

    Exactness: heuristic. Where nothing agrees, sequential decoding from left to right, with noise by position and step.

    Source: FlashDLM 2505.21467, guided diffusion, with the first token that fails left out as there. Its strategies
    are `top=1`, `top=5`, `top=5, share=rho`, `top=V, least=0.1` and `top=V, draws=True`; its cache is
    `refresh.frozen()`. What fails is drawn anew. Models of two vocabularies are missing.
    """
    if not model.causal:
        raise ValueError(f"the guider is a causal model; this model {model.purpose}")
    if chunk < 2:
        raise ValueError(f"a guider reads at least 2 tokens a step, got chunk={chunk}")
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    for what, value in {"share": share, "least": least}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{what} must lie in [0, 1], got {value}")
    return Guider(model, chunk, draws, top, share, least, name)
