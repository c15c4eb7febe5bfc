"""Draft lengths chosen in the loop.

Legend: B rows, W tokens that the longest step commits, K drafts.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Exactness, Info, Knob, Part, Request, Rows, Settings, once
from jaxdec.model import Model, Params
from jaxdec.speculative.contract import Context, Drafter, StepResult
from jaxdec.speculative.lengths import Acceptance, Ladder, LengthRule, by_acceptance
from jaxdec.speculative.loop import Speculative, SpeculativeState
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers import SharedNoiseWalk


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaptiveState:
    """What a step reads.

    Attributes:
      inner: the state of the speculation, the same for all lengths.
      acceptance: how the drafts of each row fared.
    """

    inner: SpeculativeState
    acceptance: Acceptance

    @property
    def rows(self) -> Rows:
        """The rows."""
        return self.inner.rows

    @property
    def settings(self) -> Settings:
        """The request's settings."""
        return self.inner.settings


@dataclasses.dataclass(frozen=True)
class NoDrafts(Drafter):
    """Proposes nothing: a step with it is one of plain decoding."""

    depth: int = 0

    def propose(self, params: Params, state: None, context: Context) -> tuple[DraftTree, None]:
        """An empty chain."""
        return DraftTree.chain(jnp.zeros((len(context.rows.length), 0), jnp.int32)), None


@dataclasses.dataclass(frozen=True)
class Adaptive:
    """See `adaptive`."""

    decoders: tuple[Speculative, ...]
    rule: LengthRule

    @property
    def exactness(self) -> Exactness:
        """The verifier's promise."""
        return self.decoders[-1].exactness

    @property
    def width(self) -> int:
        """W, of the longest draft."""
        return self.decoders[-1].width

    @property
    def parts(self) -> tuple[Part, ...]:
        """Drafter and verifier, of the longest draft, and the rule of lengths."""
        return *self.decoders[-1].parts, self.rule

    @property
    def knobs(self) -> dict[str, Knob]:
        """The drafter's, the verifier's and the rule's."""
        return {**self.decoders[-1].knobs, **self.rule.knobs}

    @property
    def model(self) -> Model:
        """The target."""
        return self.decoders[-1].model

    @property
    def steps_alone(self) -> bool:
        """Whether what a row drafts depends on that row alone."""
        return self.rule.by_row

    @property
    def ladder(self) -> Ladder:
        """What there is to choose from."""
        drafters = [decoder.drafter for decoder in self.decoders]
        return Ladder(tuple(d.depth for d in drafters), tuple(d.target_drawn for d in drafters))

    @property
    def rests(self) -> bool:
        """Whether a step may draft nothing."""
        return self.ladder.drafts[0] == 0

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for what the drafter or the rule cannot serve."""
        self.decoders[-1].check(request, params)
        self.rule.check(request, params)
        self.rule.check_params(self.rule.own(params), self.ladder)

    def init(self, params: Params, request: Request) -> AdaptiveState:
        """Reads the prompts."""
        inner = self.decoders[-1].init(params, request)
        return AdaptiveState(inner, self.rule.start(inner.rows))

    def choose(self, params: Params, state: AdaptiveState) -> jax.Array:
        """The length of each row, as an index int32 `[B]` of `decoders`."""
        own = self.rule.own(params)
        return self.rule.choose(own, state.acceptance, state.rows, self.ladder)

    def step(
        self, params: Params, state: AdaptiveState, rng: jax.Array
    ) -> tuple[AdaptiveState, Info]:
        """A step of the shortest speculation that serves every running row."""
        best = self.choose(params, state)
        drafts, certain = (jnp.asarray(x) for x in dataclasses.astuple(self.ladder))
        limit = drafts[best]  # a row drafts what was chosen for it, whatever its neighbours need
        needed = jnp.max(jnp.where(state.rows.running, best, 0))
        drafted = lambda inner: self._drafted(params, inner, rng, needed, limit)
        if self.rests:
            like = jax.eval_shape(drafted, state.inner)[1]

            def plain(inner):
                inner, info = self._plain(params, inner, rng)
                return inner, _filled(info, like)

            held = state.inner, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
            held = once(needed > 0, lambda held: drafted(held[0]), held)
            inner, info = once(needed == 0, lambda held: plain(held[0]), held)
        else:
            inner, info = drafted(state.inner)
        free = jnp.minimum(self.decoders[-1].drafter.target_drawn, info.proposed)
        accepted = jnp.maximum(info.accepted - free, 0)
        tested = accepted + (info.accepted < info.proposed)
        asked = limit > certain[best]
        learned = self.rule.learn(state.acceptance, accepted, tested, asked & state.rows.running)
        return AdaptiveState(inner, learned), info

    def _plain(
        self, params: Params, state: SpeculativeState, rng: jax.Array
    ) -> tuple[SpeculativeState, Info]:
        """A step of plain decoding, which leaves room for a longer one."""
        plain, drafter = self.decoders[0], self.decoders[-1].drafter
        result = plain.judge(params, state, rng)
        after, info = plain.conclude(params, state, result, spare=self.width - 1)
        draft = drafter.rest(drafter.own(params), state.draft, state.rows, after.rows, result)
        return dataclasses.replace(after, draft=draft), info

    def _drafted(
        self,
        params: Params,
        state: SpeculativeState,
        rng: jax.Array,
        needed: jax.Array,
        limit: jax.Array,
    ) -> tuple[SpeculativeState, Info]:
        """A step of the decoder `needed`, at most `limit [B]` drafts a row."""
        longest = self.decoders[-1]
        if self.rests:
            own = longest.drafter.own(params)
            draft = longest.drafter.catch_up(own, state.draft, state.rows)
            state = dataclasses.replace(state, draft=draft)
        like = jax.eval_shape(lambda: longest.judge(params, state, rng, limit))

        def branch(decoder: Speculative) -> Callable[[SpeculativeState], StepResult]:
            # Nobody reads past what a row drafted.
            return lambda state: _filled(decoder.judge(params, state, rng, limit), like)

        # The caches are only read in here, and updated in place outside.
        first = int(self.rests)
        branches = [branch(decoder) for decoder in self.decoders[first:]]
        result = jax.lax.switch(needed - first, branches, state)
        return longest.conclude(params, state, result)


def _filled(tree: Any, like: Any) -> Any:
    """Arrays filled up with zeros to the shapes of others."""

    def fill(x, full):
        return jnp.pad(x, [(0, n - m) for m, n in zip(x.shape, full.shape, strict=True)])

    return jax.tree.map(fill, tree, like)


@typed
def adaptive(
    make: Callable[[int], Speculative],
    lengths: Sequence[int] = (2, 4, 8),
    *,
    rule: LengthRule | None = None,
) -> Adaptive:
    """Speculation whose draft length is chosen in the loop, step by step.

    A rule says how many drafts each row wants, by what was accepted so far (`lengths.by_acceptance`) or by the load
    (`lengths.by_load`). The step is compiled once for each length, and runs at the longest that a running row wants.
    With the length 0 a step is one of plain decoding: nothing drafts, and the target scores the pending token alone.
    A draft model reads what was committed meanwhile when it is asked again.

    Args:
      make: the speculation for a length of at least 1, such as `lambda k: any_subset.assd(model, width=k)`; drafts are
        chains, and the drafter's state is the same for all lengths.
      lengths: different draft lengths, at least one of them above 0.
      rule: from `jaxdec.lengths`; `by_acceptance()` if not given.

    Raises:
      ValueError: for lengths, rules or drafters that do not serve; where the length 0 is traced first, for a drafter
        that has to see the target's output in every step.

    Exactness: the verifier's, whatever is chosen: a length depends on what was committed before, never on what is
    drawn next.
    """
    rule = by_acceptance() if rule is None else rule
    lengths = tuple(sorted(lengths))
    if not lengths or len(set(lengths)) < len(lengths):
        raise ValueError(f"lengths must be different integers, at least one, got {lengths}")
    if lengths[0] < 0 or lengths[-1] < 1:
        raise ValueError(f"lengths must be at least 0, and one of them above, got {lengths}")
    decoders = tuple(make(length) for length in lengths if length)
    for decoder in decoders:
        drafter = decoder.drafter
        if drafter.nodes != drafter.depth or drafter.query_count:
            raise ValueError(
                f"{type(drafter).__name__} cannot change its length: it must propose chains and keep a state "
                "that does not depend on the length"
            )
    if lengths[0] == 0:
        # Without drafts every verifier draws from the target's law; the noise of a position serves no other draw.
        decoders = (Speculative(decoders[-1].model, NoDrafts(), SharedNoiseWalk()), *decoders)
    made = Adaptive(decoders, rule)
    rule.check_ladder(made.ladder)
    return made
