"""Draft lengths chosen in the loop, from what was accepted so far.

Legend: B rows, W tokens that the longest step commits, K drafts.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness, Info, Knob, Part, Request, Rows
from jaxdec.model import Model, Params
from jaxdec.speculative.loop import Speculative, SpeculativeState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaptiveState:
    """What a step reads.

    Attributes:
      inner: the state of the speculation, the same for all lengths.
      accepted: float32 `[B]`, drafts that passed their test, older ones weighing less.
      tested: float32 `[B]`, drafts that were tested, weighed alike.
    """

    inner: SpeculativeState
    accepted: jax.Array
    tested: jax.Array

    @property
    def rows(self) -> Rows:
        """The rows."""
        return self.inner.rows


@dataclasses.dataclass(frozen=True)
class Adaptive:
    """See `adaptive`."""

    decoders: tuple[Speculative, ...]
    draft_cost: float
    memory: float

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
        """Drafter and verifier, of the longest draft."""
        return self.decoders[-1].parts

    @property
    def knobs(self) -> dict[str, Knob]:
        """The verifier's."""
        return self.decoders[-1].knobs

    @property
    def model(self) -> Model:
        """The target."""
        return self.decoders[-1].model

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for what the drafter cannot serve."""
        self.decoders[-1].check(request, params)

    def init(self, params: Params, request: Request) -> AdaptiveState:
        """Reads the prompts; the first estimate of the acceptance is one half, held weakly."""
        inner = self.decoders[-1].init(params, request)
        one = jnp.ones(inner.rows.length.shape, jnp.float32)
        return AdaptiveState(inner, one, 2 * one)

    def choose(self, state: AdaptiveState) -> jax.Array:
        """The best length of each row, as an index int32 `[B]` of `decoders`."""
        rate = jnp.minimum(state.accepted / state.tested, 0.999)[:, None]
        free = jnp.asarray([d.drafter.target_drawn for d in self.decoders])
        drafts = jnp.asarray([d.drafter.depth for d in self.decoders])
        tokens = free + (1 - rate ** (drafts - free + 1)) / (1 - rate)
        return jnp.argmax(tokens / (1 + self.draft_cost * drafts), axis=1).astype(jnp.int32)

    def step(
        self, params: Params, state: AdaptiveState, rng: jax.Array
    ) -> tuple[AdaptiveState, Info]:
        """A step of the shortest speculation that serves every running row."""
        best = self.choose(state)
        drafts = jnp.asarray([decoder.drafter.depth for decoder in self.decoders])
        limit = drafts[best]  # a row drafts by its own estimate, whatever its neighbours need

        longest = self.decoders[-1]
        like = jax.eval_shape(lambda: longest.judge(params, state.inner, rng, limit))

        def branch(decoder: Speculative):
            # Filled up with zeros to the shapes of the longest draft: nobody reads past what a row drafted.
            fill = lambda x, full: jnp.pad(
                x, [(0, n - m) for m, n in zip(x.shape, full.shape, strict=True)]
            )
            return lambda inner: jax.tree.map(fill, decoder.judge(params, inner, rng, limit), like)

        needed = jnp.max(jnp.where(state.rows.running, best, 0))
        # The caches are only read in here, and updated in place outside.
        result = jax.lax.switch(needed, [branch(d) for d in self.decoders], state.inner)
        inner, info = longest.conclude(params, state.inner, result)
        free = jnp.minimum(self.decoders[-1].drafter.target_drawn, info.proposed)
        accepted = jnp.maximum(info.accepted - free, 0)
        tested = accepted + (info.accepted < info.proposed)
        older = jnp.where(tested > 0, self.memory, 1.0)
        return (
            AdaptiveState(inner, older * state.accepted + accepted, older * state.tested + tested),
            info,
        )


def adaptive(
    make: Callable[[int], Speculative],
    lengths: Sequence[int] = (2, 4, 8),
    *,
    draft_cost: float = 0.1,
    memory: float = 0.9,
) -> Adaptive:
    """Speculation whose draft length follows the acceptance, row by row and step by step, in the loop.

    With a the share of tested drafts that passed lately and s drafts that always do, K drafts are expected to give
    `s + (1 - a^(K - s + 1)) / (1 - a)` tokens for the price of `1 + draft_cost K`. Each row drafts as many as make the
    most of that; the step is compiled once for each length, and runs at the longest that a running row wants.

    Args:
      make: the speculation for a length, such as `lambda k: any_subset.assd(model, width=k)`; drafts are chains, and
        the drafter's state is the same for all lengths.
      lengths: different draft lengths.
      draft_cost: seconds that one more draft costs, over those of a step without any; depends on the machine.
      memory: weight in (0, 1] of the past at each step.

    Raises:
      ValueError: for lengths, costs or drafters that do not serve.

    Exactness: the verifier's. A row's length depends on the row alone.
    """
    lengths = tuple(sorted(lengths))
    if not lengths or len(set(lengths)) < len(lengths):
        raise ValueError(f"lengths must be different integers, at least one, got {lengths}")
    if not draft_cost >= 0:
        raise ValueError(f"draft_cost must be at least 0, got {draft_cost}")
    if not 0 < memory <= 1:
        raise ValueError(f"memory must lie in (0, 1], got {memory}")
    decoders = tuple(make(length) for length in lengths)
    for decoder in decoders:
        drafter = decoder.drafter
        if drafter.nodes != drafter.depth or drafter.query_count:
            raise ValueError(
                f"{type(drafter).__name__} cannot change its length: it must propose chains and keep a state "
                "that does not depend on the length"
            )
    return Adaptive(decoders, float(draft_cost), float(memory))
