"""A masked model as the drafter of a causal target: all drafts in one forward, joined by a search.

Legend: B rows, K drafts, C context tokens, M candidates of a position, W beams, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.decoding import Request, Rows, check_length, check_serves
from jaxdec.model import Inputs, Model, Output, Params
from jaxdec.speculative.contract import Context, StepResult
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.drafters.row_ngram import row_ngram
from jaxdec.speculative.tree import DraftTree
from pallas_kernels import top_k


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DraftLength:
    """How many drafts pay, `[B]` each.

    Attributes:
      length: int32, drafts of the next step.
      proposed: float32, running mean of the drafts before an end of sequence.
      accepted: float32, running mean of those that were accepted.
    """

    length: jax.Array
    proposed: jax.Array
    accepted: jax.Array


@dataclasses.dataclass(frozen=True)
class DiffuSpec(CausalDrafter):
    """See `diffuspec`."""

    model: Model
    depth: int
    shortest: int
    growth: int
    memory: float
    candidates: int
    mass: float
    beams: int
    weight: float
    strength: float
    context: int
    block: int | None
    name: str = "draft"

    @property
    def vocab_size(self) -> int:
        """V, of the draft model."""
        return self.model.vocab_size

    @property
    def forwards(self) -> int:
        """One, whatever the number of drafts."""
        return 1

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a request with an order or too long for the model, or missing parameters."""
        super().check(request, params)
        check_serves("draft model", self.model, self.own(params))
        check_length("draft model", self.model, request)

    def init(self, params: Params, request: Request, output: Output) -> DraftLength:
        """As many drafts as there can be."""
        zero = jnp.zeros(request.lengths.shape, jnp.float32)
        return DraftLength(jnp.full_like(request.lengths, self.depth), zero, zero)

    def propose(
        self, params: Params, state: DraftLength, context: Context
    ) -> tuple[DraftTree, jax.Array]:
        """Fills K masks after each row in one forward, and picks the most consistent path through them."""
        law = self.laws(params, context)
        path = self.best_path(law, context)
        ends = context.settings.ends(path)
        before_end = jnp.cumsum(ends, axis=1) - ends == 0
        first = jnp.argmax(law, axis=-1)
        ended = context.settings.ends(first)
        raw = jnp.where(ended.any(1), jnp.argmax(ended, axis=1) + 1, state.length)
        wanted = jnp.minimum(state.length, context.remaining)
        wanted = jnp.minimum(wanted, self.horizon(law, context))
        mask = (jnp.arange(self.depth) < wanted[:, None]) & before_end
        return DraftTree.chain(path, mask=mask), jnp.minimum(raw, state.length)

    def laws(self, params: Params, context: Context) -> jax.Array:
        """Log-probabilities `[B, K, V]` of the next K tokens, each apart."""
        rows, mask_token = context.rows, self.model.mask_token
        assert mask_token is not None
        start = jnp.maximum(rows.length - self.context, 0)
        places = start[:, None] + jnp.arange(self.context + self.depth)
        known = places < rows.length[:, None]
        tokens = rows.window(start, places.shape[1])
        tokens = jnp.where(known, tokens, mask_token)
        spans = visibility.full(places)
        if self.block is not None:
            spans = visibility.block_causal(places // self.block)
        spans = spans.where(places < (rows.length + self.depth)[:, None])
        inputs = Inputs(tokens, places.astype(jnp.int32), *spans)
        logits = self.model(params, inputs, None).logits
        at = (rows.length - start)[:, None] + jnp.arange(self.depth)
        logits = jnp.take_along_axis(logits, at[..., None], axis=1)
        real = jnp.arange(logits.shape[-1]) != mask_token
        return jax.nn.log_softmax(jnp.where(real, logits, -jnp.inf))

    def horizon(self, law: jax.Array, context: Context) -> jax.Array:
        """Positions up to the first one where an end of the sequence is a candidate, int32 `[B]`."""
        _, tokens, enough = self._candidates(law.reshape(-1, law.shape[-1]))
        batch = law.shape[0]
        ends = context.settings.ends(tokens.reshape(batch, -1)) & enough.reshape(batch, -1)
        ends = ends.reshape(batch, self.depth, -1).any(-1)
        return jnp.where(ends.any(1), jnp.argmax(ends, axis=1) + 1, self.depth)

    def _candidates(self, law: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Of laws `[B, V]`: log-probabilities, tokens, and whether they are candidates, `[B, M]` each."""
        top, tokens = top_k(law, self.candidates)
        probability = jnp.exp(top)
        return top, tokens, jnp.cumsum(probability, axis=1) - probability < self.mass

    def best_path(self, law: jax.Array, context: Context) -> jax.Array:
        """The best path `[B, K]` by a beam search over candidates, scored with the trigrams of the row as well."""
        rows, size = context.rows, law.shape[-1]
        horizon = self.horizon(law, context)

        def step(carry, now):
            before, score = carry  # [B, W, 2], [B, W]
            law, depth = now
            top, tokens, enough = self._candidates(law)
            tokens = jnp.broadcast_to(tokens[:, None], (*score.shape, self.candidates))
            seen = row_ngram(rows, before, tokens, size, self.strength)
            gain = self.weight * top[:, None] + (1 - self.weight) * seen
            total = jnp.where(enough[:, None], score[..., None] + gain, -jnp.inf)
            # Behind the horizon a path goes on as it is: what stands there is not drafted.
            first = jnp.arange(self.candidates) == 0
            still = jnp.where(first, score[..., None], -jnp.inf)
            total = jnp.where((depth < horizon)[:, None, None], total, still)
            best, at = jax.lax.top_k(total.reshape(len(total), -1), self.beams)
            parent = at // self.candidates
            token = jnp.take_along_axis(tokens.reshape(len(total), -1), at, axis=1)
            last = jnp.take_along_axis(before[..., 1], parent, axis=1)
            return (jnp.stack([last, token], axis=-1), best), (token, parent)

        # All beams but one start without hope, so that the first step does not count a path W times.
        score = jnp.where(jnp.arange(self.beams) == 0, 0.0, -jnp.inf)
        score = jnp.broadcast_to(score, (len(law), self.beams))
        older = rows.window(jnp.maximum(rows.length - 2, 0), 1)[:, 0]
        older = jnp.where(rows.length > 1, older, -1)
        before = jnp.stack([older, rows.pending], axis=-1)
        before = jnp.broadcast_to(before[:, None], (*score.shape, 2))
        depths = jnp.arange(self.depth)
        _, (tokens, parents) = jax.lax.scan(step, (before, score), (law.swapaxes(0, 1), depths))

        def back(beam, step):
            tokens, parents = step
            here = lambda x: jnp.take_along_axis(x, beam[:, None], axis=1)[:, 0]
            return here(parents), here(tokens)

        best = jnp.zeros(len(law), jnp.int32)  # beams are sorted
        _, path = jax.lax.scan(back, best, (tokens, parents), reverse=True)
        return path.swapaxes(0, 1)

    def update(
        self, params: Params, state: DraftLength, rows: Rows, result: StepResult
    ) -> DraftLength:
        """Longer drafts where all that was proposed is accepted."""
        mix = lambda old, new: self.memory * old + (1 - self.memory) * new
        proposed = mix(state.proposed, result.proposal.astype(jnp.float32))
        accepted = mix(state.accepted, result.verdict.count.astype(jnp.float32))
        length = jnp.floor(proposed).astype(jnp.int32) + self.growth * (accepted >= proposed)
        return DraftLength(jnp.clip(length, self.shortest, self.depth), proposed, accepted)


@typed
def diffuspec(
    model: Model,
    *,
    length: int = 16,
    shortest: int = 4,
    growth: int = 8,
    memory: float = 0.5,
    candidates: int = 8,
    mass: float = 0.8,
    beams: int = 3,
    weight: float = 0.5,
    strength: float = 1.0,
    context: int = 128,
    block: int | None = None,
    name: str = "draft",
) -> DiffuSpec:
    """Drafts with a masked diffusion model, one forward for all of them, for `jaxdec.speculative`.

        path = argmax sum_i [ w log p_i(x_i) + (1 - w) log b(x_i | x_{i-2} x_{i-1}) ]

    over the candidates of each position up to the first where an end of the sequence is one (causal-consistency path
    search), b the trigrams of the row's own text, which back off to shorter contexts (`row_ngram`); and as many drafts
    as the running mean of what was proposed, more where that was accepted (adaptive draft length).

    Args:
      model: a canvas model with the target's vocabulary.
      length: K, drafts a step at most; as many masks are filled in every step.
      shortest: drafts a step at least.
      growth: how many more are drafted where acceptance keeps up.
      memory: of the running means, in [0, 1).
      candidates: M, tokens of a position at most.
      mass: candidates of a position stop once their probabilities add up to this.
      beams: W.
      weight: w, in [0, 1].
      strength: tokens that a shorter context is worth where a longer one has been seen, above 0.
      context: C, tokens before the drafts that the model reads.
      block: for a model of blocks, their size.
      name: of its parameters in the `params` of `generate`.

    Raises:
      ValueError: for sizes out of range or a model that has no mask token.

    Exactness: that of the verifier. The path is a function of the row, so its law is one-hot: the tree says so, and
    ratio rules accept with the target's own probability of it (the published ratio with the drafter's probabilities is
    biased).

    Source: 2510.02358, with trigrams of the row's own text in place of a trigram model that was trained on text of the
    task. The paper makes the end of the sequence a candidate everywhere and freezes paths that reach it; here it is one
    where the draft model says so, which ends all paths alike.
    """
    if not model.canvas:
        raise ValueError("DiffuSpec drafts with a canvas model, which has a mask token")
    limits = {
        "length": (length, 1, None),
        "shortest": (shortest, 1, length),
        "growth": (growth, 0, None),
        "candidates": (candidates, 1, model.vocab_size),
        "beams": (beams, 1, candidates),
        "context": (context, 1, None),
    }
    for option, (value, low, high) in limits.items():
        if value < low or (high is not None and value > high):
            limit = f"at least {low}" if high is None else f"{low} to {high}"
            raise ValueError(f"{option} must be {limit}, got {value}")
    if not 0 < strength < float("inf"):
        raise ValueError(f"strength must be above 0, got {strength}")
    for option, share in (("memory", memory), ("mass", mass), ("weight", weight)):
        if not 0 <= share <= 1:
            raise ValueError(f"{option} must lie in [0, 1], got {share}")
    return DiffuSpec(
        model=model,
        depth=length,
        shortest=shortest,
        growth=growth,
        memory=memory,
        candidates=candidates,
        mass=mass,
        beams=beams,
        weight=weight,
        strength=strength,
        context=context,
        block=block,
        name=name,
    )
