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
    Request,
    Rows,
    Settings,
    read_prompts,
    target_params,
)
from jaxdec.model import Inputs, Model, Output, Params, score
from jaxdec.sampling import Purpose, key_at
from jaxdec.speculative.contract import Committed, Context, Drafter, Outcome, Verifier
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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Judged:
    """What a step found out before anything is committed.

    Attributes:
      chunk: int32 `[B, W]`, the accepted path and the token after it.
      offered: int32 `[B]`, tokens of the chunk that the step would commit.
      drafted: bool `[B, W]`, which of them were drafted.
      log_probs: float32 `[B, W]`, under the warped law.
      raw_log_probs: float32 `[B, W]`, under the target's own law.
      outcome: of the verifier.
      output: of the target's forward.
      rides: answers to the drafter's own queries, or None.
      made: what the drafter wants to know of its proposal.
      proposed: int32 `[B]`; this and the following are counts for the info.
      target_forwards: int32 `[B]`.
      target_rows: int32 `[B]`.
      draft_forwards: int32 `[B]`.
    """

    chunk: jax.Array
    offered: jax.Array
    drafted: jax.Array
    log_probs: jax.Array
    raw_log_probs: jax.Array
    outcome: Outcome
    output: Output
    rides: jax.Array | None
    made: Any
    proposed: jax.Array
    target_forwards: jax.Array
    target_rows: jax.Array
    draft_forwards: jax.Array


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
    def knobs(self) -> dict[str, Knob]:
        """The verifier's."""
        return self.verifier.knobs

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for what the drafter cannot serve."""
        self.drafter.check(request, params, self.model.vocab_size)

    def init(self, params: Params, request: Request) -> SpeculativeState:
        """Reads the prompts with the target and the drafter."""
        cache, output = read_prompts(self.model, target_params(params), request)
        return SpeculativeState(
            rows=Rows.start(request, self.model.vocab_size),
            settings=request.settings,
            cache=cache,
            draft=self.drafter.init(params, request, output),
        )

    def step(
        self, params: Params, state: SpeculativeState, rng: jax.Array
    ) -> tuple[SpeculativeState, Info]:
        """Drafts a tree, scores it and the pending token in one forward of the target, keeps a path."""
        return self.conclude(state, self.judge(params, state, rng))

    def context(self, state: SpeculativeState, rng: jax.Array) -> Context:
        """What drafter and verifier may look at in the next step."""
        rows, settings = state.rows, state.settings
        depths = jnp.arange(self.width)
        shares = self.verifier.shares_noise

        def keys():
            if shares:
                return key_at(rng, Purpose.TOKEN, rows.length[:, None] + depths)
            return key_at(rng, Purpose.DRAFT, rows.rounds[:, None], depths)

        shape = (*rows.length.shape, self.width, self.model.vocab_size)
        noise = settings.warp.noise(keys, shape)
        return Context(rows, settings, rng, noise, state.cache, shares)

    def judge(
        self,
        params: Params,
        state: SpeculativeState,
        rng: jax.Array,
        limit: jax.Array | None = None,
    ) -> Judged:
        """Drafts, scores and verifies; the state is only read.

        Args:
          params: of the target and the drafter.
          state: before the step.
          rng: row keys `[B]`.
          limit: int32 `[B]`, how many drafts of its chain each row has; all if not given.
        """
        rows = state.rows
        context = self.context(state, rng)
        tree, made = self.drafter.propose(params, state.draft, context)
        if limit is not None:
            mask = tree.mask & (jnp.arange(tree.mask.shape[1]) < limit[:, None])
            tree = dataclasses.replace(tree, mask=mask)

        lineage = tree.lineage()
        tokens = jnp.concatenate([rows.pending[:, None], tree.tokens], axis=1)
        start = rows.length - 1
        ranks = (start[:, None] + lineage.sum(-1) - 1).astype(jnp.int32)
        spans = visibility.tree(tree.rooted, start, tree.scored)
        inputs = Inputs(tokens, ranks, spans.query_spans, spans.key_spans)
        output, asked = self._score(params, state, inputs, tree, context)
        scored = tokens.shape[1] - tree.settled
        logits, rides = output.logits[:, :scored], output.logits[:, scored:]
        if tree.known is not None:
            logits = jnp.concatenate([tree.known, logits], axis=1)

        history = rows.history
        if history is not None:  # the pending token is counted already
            history = history.along(tokens, lineage.at[:, :, 0].set(False))
        verdict = self.verifier.judge(tree, logits, history, context)
        outcome = verdict.outcome
        queries = 0 if rows.order is None else output.logits.shape[1]
        target_rows = self.drafter.target_rows + jnp.where(asked, tokens.shape[1] + queries, 0)
        return Judged(
            chunk=outcome.chunk(tree),
            offered=outcome.count + self._closed(tree, outcome),
            drafted=outcome.drafted(),
            log_probs=verdict.log_probs,
            raw_log_probs=verdict.raw_log_probs,
            outcome=outcome,
            output=output,
            rides=rides if self.drafter.rides_along else None,
            made=made,
            proposed=tree.mask.sum(-1).astype(jnp.int32),
            target_forwards=(self.drafter.target_forwards + asked).astype(jnp.int32),
            target_rows=target_rows.astype(jnp.int32),
            draft_forwards=jnp.full_like(rows.length, self.drafter.forwards),
        )

    def conclude(self, state: SpeculativeState, judged: Judged) -> tuple[SpeculativeState, Info]:
        """Commits what was judged."""
        room = state.cache.capacity - state.cache.length
        rows, count = state.rows.advance(
            state.settings,
            judged.chunk,
            judged.offered,
            jnp.isfinite(judged.log_probs),
            room=room,
        )
        outcome, output = judged.outcome, judged.output
        ranks = state.rows.length[:, None] - 1 + jnp.arange(self.width)
        cache = state.cache.commit(
            output.entries, outcome.path, count, visibility.causal(ranks).key_spans
        )
        committed = Committed(rows, outcome, output, judged.rides)
        draft = self.drafter.update(state.draft, judged.made, committed)
        counted = lambda value: jnp.where(state.rows.running, value, 0)
        info = Info(
            tokens=judged.chunk,
            start=rows.length - count,
            count=count,
            log_probs=judged.log_probs,
            raw_log_probs=judged.raw_log_probs,
            drafted=judged.drafted,
            proposed=counted(judged.proposed),
            accepted=counted(outcome.count),
            target_forwards=counted(judged.target_forwards),
            target_rows=counted(judged.target_rows),
            draft_forwards=counted(judged.draft_forwards),
            status=rows.status,
            steps=jnp.broadcast_to(state.rows.rounds[:, None], judged.chunk.shape),
        )
        return SpeculativeState(rows, state.settings, cache, draft), info

    def _closed(self, tree: DraftTree, outcome: Outcome) -> jax.Array:
        """Which rows take the token that follows the path: all, or all whose chain was cut or empty."""
        drafts = tree.mask.sum(-1)
        return self.bonus | (outcome.count < drafts) | (drafts == 0)

    def _score(
        self,
        params: Params,
        state: SpeculativeState,
        inputs: Inputs,
        tree: DraftTree,
        context: Context,
    ) -> tuple[Output, jax.Array]:
        """The target's forward over the tree, and which rows needed it: those that settled drafts do not end."""
        batch, width = inputs.tokens.shape
        at = None
        if tree.settled:
            at = jnp.broadcast_to(jnp.arange(tree.settled, width), (batch, width - tree.settled))
        more = self.drafter.rides(context, inputs)

        def forward():
            order, cache = state.rows.order, state.cache
            return score(self.model, target_params(params), inputs, cache, order, at=at, more=more)

        if not tree.settled:
            return forward(), jnp.ones((batch,), bool)
        asked = context.remaining > tree.settled
        # Zeros stand for an output that nobody reads: every running row ends within its settled drafts.
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
      ValueError: if the verifier judges only chains, or there is no bonus, and the drafter proposes trees; or if the
        verifier needs siblings that were drawn independently, and the drafter's were not.

    Exactness: the verifier's; token-identical to `autoregressive` with the same key for the default.
    Source: Leviathan et al. (2211.17192) and Chen et al. (2302.01318) for chains; here drafter, tree and law of
    acceptance are separate parts.
    """
    verifier = SharedNoiseWalk() if verifier is None else verifier
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
    return Speculative(model, drafter, verifier, bonus)
