"""Speculative decoding: one loop for every drafter and every verifier.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth, W = D + 1 tokens a step at most, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.decoding import (
    Exactness,
    Info,
    Knob,
    Part,
    Request,
    Rows,
    Settings,
    read_prompts,
    target_params,
)
from jaxdec.model import Heads, Inputs, Model, Output, Params, score, tapped
from jaxdec.sampling import Purpose, key_at
from jaxdec.speculative.contract import Context, Drafter, StepResult, Verdict, Verifier
from jaxdec.speculative.scoring import beside, history_of_tree, seen_of, without_asides
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers import SharedNoiseWalk


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SpeculativeState:
    """What a step reads.

    Attributes:
      rows: committed tokens.
      settings: the request's settings.
      cache: the target's, one token behind the rows.
      draft: the drafter's own state.
    """

    rows: Rows
    settings: Settings
    cache: Any
    draft: Any


@dataclasses.dataclass(frozen=True)
class Speculative:
    """See `speculative`."""

    model: Model
    drafter: Drafter
    verifier: Verifier
    bonus: bool = True

    @property
    def exactness(self) -> Exactness:
        """The verifier's promise."""
        return self.verifier.exactness

    @property
    def width(self) -> int:
        """Tokens that a step commits at most: a whole path and the token after it."""
        return self.drafter.depth + 1

    @property
    def parts(self) -> tuple[Part, ...]:
        """Drafter and verifier."""
        return self.drafter, self.verifier

    @property
    def knobs(self) -> dict[str, Knob]:
        """Those of the drafter and of the verifier."""
        return {**self.drafter.knobs, **self.verifier.knobs}

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for what the drafter or the verifier cannot serve."""
        self.drafter.check_target(self.model)
        self.drafter.check(request, params)
        self.verifier.check(request, params)
        if request.settings.warp.draws_by_key and not self.verifier.shares_noise:
            name, mark = type(self.verifier).__name__, request.settings.warp.watermark
            raise ValueError(
                f"watermark: got {type(mark).__name__} with {name}, which keeps drafts that the secret did not draw; "
                "the verifier must be SharedNoiseWalk"
            )

    def init(self, params: Params, request: Request) -> SpeculativeState:
        """Reads the prompts with the target and the drafter."""
        cache, output = read_prompts(self.model, target_params(params), request)
        return SpeculativeState(
            rows=Rows.start(request, self.model.vocab_size),
            settings=request.settings,
            cache=cache,
            draft=self.drafter.init(self.drafter.own(params), request, output),
        )

    def step(
        self, params: Params, state: SpeculativeState, rng: jax.Array
    ) -> tuple[SpeculativeState, Info]:
        """Drafts a tree, scores it and the pending token in one forward of the target, keeps a path."""
        return self.conclude(params, state, self.judge(params, state, rng))

    def context(self, state: SpeculativeState, rng: jax.Array) -> Context:
        """What drafter and verifier may look at in the next step."""
        rows, settings = state.rows, state.settings
        depths = jnp.arange(self.width)
        shares, vocab_size = self.verifier.shares_noise, self.model.vocab_size
        if shares:
            places = rows.length[:, None] + depths
            noise = settings.warp.token_noise(rng, places, vocab_size)
        else:
            keys = lambda: key_at(rng, Purpose.DRAFT, rows.rounds[:, None], depths)
            noise = settings.warp.noise(keys, (*rows.length.shape, self.width, vocab_size))
        return Context(rows, settings, rng, noise, state.cache, shares)

    def propose(
        self,
        params: Params,
        state: SpeculativeState,
        context: Context,
        limit: jax.Array | None = None,
    ) -> tuple[DraftTree, Any]:
        """The drafter's tree and what it wants to know of it again; the state is only read.

        A node that is none (`DraftTree.within`) does not exist, nor does anything below it.

        Args:
          params: of the target and the parts.
          state: before the step.
          context: of the step.
          limit: int32 `[B]`, how many drafts of its chain each row has; all if not given.

        Raises:
          ValueError: while it is traced, if the tree is not of the types, the shape and the depth that the drafter
            promises.
        """
        drafter, vocab_size = self.drafter, self.model.vocab_size
        tree, proposal = drafter.propose(drafter.own(params), state.draft, context)
        author, batch = type(drafter).__name__, state.rows.length.shape[0]
        tree.check(author, batch, drafter.nodes, drafter.depth, drafter.target_drawn, vocab_size)
        tree = tree.within(vocab_size)
        if limit is not None:
            mask = tree.mask & (jnp.arange(tree.mask.shape[1]) < limit[:, None])
            tree = dataclasses.replace(tree, mask=mask)
        return tree, proposal

    def judge(
        self,
        params: Params,
        state: SpeculativeState,
        rng: jax.Array,
        limit: jax.Array | None = None,
    ) -> StepResult:
        """Drafts, scores and verifies; the state is only read.

        Args:
          params: of the target and the parts.
          state: before the step.
          rng: row keys `[B]`.
          limit: int32 `[B]`, how many drafts of its chain each row has; all if not given.
        """
        rows, settings, drafter = state.rows, state.settings, self.drafter
        context = self.context(state, rng)
        tree, proposal = self.propose(params, state, context, limit)
        tokens = jnp.concatenate([rows.pending[:, None], tree.tokens], axis=1)
        aside = self.verifier.asides(self.verifier.own(params), tree, context)
        wide = tree if aside is None else beside(tree, *aside)
        output, asked = self._score(params, state, wide, context)
        scored = tokens.shape[1] - tree.target_drawn
        output, asides = without_asides(output, scored, wide.tokens.shape[1] - tree.tokens.shape[1])
        seen = seen_of(output, tree, scored, asides)
        context = dataclasses.replace(
            context, history=history_of_tree(rows, settings.warp, tree, tokens)
        )
        laws = settings.warp.log_probs(seen.logits, context.history)
        verdict = self.verifier.verify(self.verifier.own(params), tree, seen, laws, context)
        size = None if rows.order is None else rows.order.size
        queries = 0 if size is None else output.logits.shape[1]
        width = wide.tokens.shape[1] + 1
        computed = self.model.scored_rows(width, queries, size) if queries else width
        target_rows = drafter.target_rows(size) + jnp.where(asked, computed, 0)
        return StepResult(
            verdict=verdict,
            chunk=verdict.chunk(tree),
            top=verdict.top(seen.logits, rows.top_log_probs),
            offered=verdict.count + self._closed(tree, verdict),
            output=output,
            answers=output.logits[:, scored:] if drafter.query_count else None,
            proposal=proposal,
            proposed=tree.mask.sum(-1).astype(jnp.int32),
            target_forwards=(drafter.target_forwards + asked).astype(jnp.int32),
            target_rows=target_rows.astype(jnp.int32),
            draft_forwards=jnp.full_like(rows.length, drafter.forwards),
        )

    def conclude(
        self, params: Params, state: SpeculativeState, result: StepResult, *, spare: int = 0
    ) -> tuple[SpeculativeState, Info]:
        """Commits what was found; a row ends unless another step, `spare` tokens longer than this, has room."""
        room = state.cache.capacity - state.cache.length - spare
        verdict, output = result.verdict, result.output
        rows, count = state.rows.advance(
            state.settings,
            result.chunk,
            result.offered,
            ~jnp.isnan(verdict.log_probs),  # a relaxed rule may keep what the law rules out
            room=room,
        )
        ranks = state.rows.length[:, None] - 1 + jnp.arange(self.width)
        cache = state.cache.commit(
            output.entries, verdict.path, count, visibility.causal(ranks).key_spans
        )
        draft = self.drafter.update(self.drafter.own(params), state.draft, rows, result)
        counted = lambda value: jnp.where(state.rows.running, value, 0)
        info = Info(
            tokens=result.chunk,
            start=rows.length - count,
            count=count,
            log_probs=verdict.log_probs,
            raw_log_probs=verdict.raw_log_probs,
            drafted=verdict.drafted(),
            proposed=counted(result.proposed),
            accepted=counted(verdict.count),
            target_forwards=counted(result.target_forwards),
            target_rows=counted(result.target_rows),
            draft_forwards=counted(result.draft_forwards),
            status=rows.status,
            steps=jnp.broadcast_to(state.rows.rounds[:, None], result.chunk.shape),
            top=result.top,
        )
        return SpeculativeState(rows, state.settings, cache, draft), info

    def _closed(self, tree: DraftTree, verdict: Verdict) -> jax.Array:
        """Which rows take the token that follows the path: all, or all whose chain was cut or empty."""
        drafts = tree.mask.sum(-1)
        return self.bonus | (verdict.count < drafts) | (drafts == 0)

    def _score(
        self,
        params: Params,
        state: SpeculativeState,
        tree: DraftTree,
        context: Context,
    ) -> tuple[Output, jax.Array]:
        """The target's forward over the scored tokens, and which rows needed it: those not done by their own draws."""
        tokens = jnp.concatenate([state.rows.pending[:, None], tree.tokens], axis=1)
        batch, width = tokens.shape
        start, drawn = state.rows.length - 1, tree.target_drawn
        ranks = (start[:, None] + tree.lineage().sum(-1) - 1).astype(jnp.int32)
        spans = visibility.tree(tree.rooted, start, tree.scored)
        inputs = Inputs(tokens, ranks, spans.query_spans, spans.key_spans)
        at = None
        if drawn:
            at = jnp.broadcast_to(jnp.arange(drawn, width), (batch, width - drawn))
        more = self.drafter.queries(self.drafter.own(params), context, inputs)

        def forward():
            order, cache = state.rows.order, state.cache
            return score(self.model, target_params(params), inputs, cache, order, at=at, more=more)

        if not drawn:
            return forward(), jnp.ones((batch,), bool)
        asked = context.remaining > drawn
        # Zeros stand for an output that nobody reads: every running row ends within the drafts that the target drew.
        skip = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(forward))
        return jax.lax.cond((asked & state.rows.running).any(), forward, skip), asked


def speculative(
    model: Model, *, drafter: Drafter, verifier: Verifier | None = None, bonus: bool = True
) -> Speculative:
    """Speculative decoding of a target with any drafter and any verifier.

    A step drafts a tree of N nodes, scores the pending token and all nodes in one forward of the target, keeps the
    path that the verifier accepts and the token that follows it: 1 to D + 1 tokens a forward. Rows accept on their
    own; none waits for another.

    Args:
      model: the target.
      drafter: from `jaxdec.drafters`.
      verifier: from `jaxdec.verifiers`; the shared-noise walk if not given.
      bonus: whether a path that is accepted whole is followed by one more token, whose law the forward gives for free.

    Raises:
      ValueError: if a part is none (a draft model is no drafter: `drafters.model(draft)` is); if the
        verifier judges only chains, or there is no bonus, and the drafter proposes trees; if the verifier needs
        siblings that were drawn independently, and the drafter's were not; if both have a knob of one name; or if the
        drafter reads states of layers that the target has not.

    Exactness: the verifier's; token-identical to `autoregressive` with the same key for the default.
    Source: Leviathan et al. (2211.17192) and Chen et al. (2302.01318) for chains; here drafter, tree and law of
    acceptance are separate parts.
    """
    verifier = SharedNoiseWalk() if verifier is None else verifier
    _check_parts(model, drafter, verifier)
    if verifier.chains_only and drafter.nodes != drafter.depth:
        raise ValueError(
            f"{type(verifier).__name__} verifies chains, but the drafter proposes trees of "
            f"{drafter.nodes} nodes and depth {drafter.depth}"
        )
    if verifier.needs_independence and not drafter.independent:
        raise ValueError(
            f"{type(verifier).__name__} needs siblings that are independent draws from one law, but those of "
            f"{type(drafter).__name__} are not"
        )
    if not bonus and drafter.nodes != drafter.depth:
        raise ValueError(f"a tree of {drafter.nodes} nodes cannot be decoded without the bonus")
    return Speculative(tapped(model, drafter.taps), drafter, verifier, bonus)


def _check_parts(model: Model, drafter: Drafter, verifier: Verifier) -> None:
    """Raises `ValueError` for what is no model, drafter or verifier, or parts that cannot be told apart."""
    kind = lambda value: getattr(value, "__name__", type(value).__name__)
    if not isinstance(model, Model):
        raise ValueError(f"model must be the target, a jaxdec.Model, got {kind(model)}")
    if not isinstance(drafter, Drafter):
        wraps = {Model: "jaxdec.drafters.model", Heads: "jaxdec.drafters.heads"}
        wrap = wraps.get(type(drafter))
        hint = f"; wrap it in {wrap}(...)" if wrap else ""
        raise ValueError(f"drafter must be a Drafter, got {kind(drafter)}{hint}")
    if not isinstance(verifier, Verifier):
        raise ValueError(
            f"verifier must be a Verifier, such as verifiers.TokenRatio(), got {kind(verifier)}"
        )
    shared = drafter.knobs.keys() & verifier.knobs.keys()
    if shared:
        raise ValueError(f"drafter and verifier both have a knob {min(shared)!r}")
