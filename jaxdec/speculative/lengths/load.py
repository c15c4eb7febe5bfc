"""Draft lengths by load: the fuller the device, the fewer drafts.

Legend: B rows, K drafts.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Rows
from jaxdec.model import Params
from jaxdec.speculative.lengths.contract import Acceptance, Ladder, LengthRule, check_memory
from jaxdec.speculative.lengths.costs import LoadCosts


@dataclasses.dataclass(frozen=True)
class ByLoad(LengthRule):
    """See `by_load`."""

    expected: float
    margin: float
    memory: float
    fading: float
    name: str = "load"
    by_row: bool = False

    def check_params(self, params: Params | None, ladder: Ladder) -> None:
        """Raises `ValueError` for what are no costs, or lacks one of the lengths."""
        if not isinstance(params, LoadCosts):
            raise ValueError(
                f"params[{self.name!r}] must be LoadCosts, got {type(params).__name__}"
            )
        LoadCosts.of(params.seconds, params.rows, params.lengths, params.slots)
        lacking = [length for length in ladder.drafts if length not in params.lengths]
        if lacking:
            raise ValueError(
                f"params[{self.name!r}] has no cost of the draft length {lacking[0]}, only of {params.lengths}"
            )

    def start(self, rows: Rows) -> Acceptance:
        """The share that is expected."""
        return Acceptance.start(self.expected, rows.length)

    def choose(
        self, params: Params | None, acceptance: Acceptance, rows: Rows, ladder: Ladder
    ) -> jax.Array:
        """The length that gives the most tokens a second to all running rows, for every row."""
        assert isinstance(params, LoadCosts)
        running = rows.running
        load = running.shape[0] if params.slots is None else running.sum()
        tokens = jnp.where(running[:, None], ladder.tokens(acceptance), 0).sum(0)
        value = tokens / params.at(load, ladder.drafts)
        value = value.at[0].multiply(1 + self.margin)
        return jnp.broadcast_to(jnp.argmax(value).astype(jnp.int32), running.shape)

    def learn(
        self, acceptance: Acceptance, accepted: jax.Array, tested: jax.Array, asked: jax.Array
    ) -> Acceptance:
        """Tests make older ones weigh less; without any, the estimate returns to what is expected."""
        # A row that was asked for drafts and had none paid for them all the same.
        tested = jnp.where(asked, jnp.maximum(tested, 1), tested)
        idle = tested == 0
        older = jnp.where(idle, jnp.float32(self.fading), jnp.float32(self.memory))
        new = Acceptance.start(self.expected, tested)
        fresh = lambda prior, found: jnp.where(idle, (1 - self.fading) * prior, found)
        return Acceptance(
            older * acceptance.accepted + fresh(new.accepted, accepted),
            older * acceptance.tested + fresh(new.tested, tested),
        )


def by_load(
    *,
    expected: float = 0.7,
    margin: float = 0.05,
    memory: float = 0.9,
    fading: float = 0.995,
    name: str = "load",
) -> ByLoad:
    """All rows draft as many as gives the most tokens a second at the load of the moment, 0 among them.

        K = argmax_K  sum over running rows of E[tokens | a, K] / cost(n, K),
        E[tokens | a, K] = s + (1 - a^(K - s + 1)) / (1 - a)

    with a the share of a row's tested drafts that passed lately, s drafts that always do, and the cost of a step
    measured on this machine (`jaxdec.measuring.costs.verify_costs`), `params[name]`. Where few rows run, a forward
    waits for weights and scores drafts for little; where many do, every draft costs. n is the number of running rows,
    read in every step, for costs that were measured in a batch of fixed slots, and the rows of the batch else: a step
    computes those that have ended too.

    Args:
      expected: share of the drafts that pass, before anything is known of a row. Where that does not pay at a load,
        nothing is tried; too high a share costs a few steps.
      margin: another length than the shortest is chosen only if it gives more than `1 + margin` of its tokens.
      memory: weight in (0, 1] of the past at each step that tests drafts.
      fading: weight in (0, 1] of what a row is known for, against what is expected, at each step without a test; so
        that lengths are tried again.
      name: of the costs in `params`, `LoadCosts`.

    Raises:
      ValueError: for settings out of their limits; where the request is, if the costs lack a length.

    Exactness: a row's length depends on its neighbours. Its tokens do not with a token-identical verifier; with
    others its law does not, since a length is chosen by what was committed before.
    Source: 2406.14066 (SmartSpec: the length of most goodput by batch) and 2310.18813 (lengths by the batch), where
    the host chooses before each step; here the choice is part of the compiled step.
    """
    if not 0 <= expected < 1:
        raise ValueError(f"expected must lie in [0, 1), got {expected}")
    if not margin >= 0:
        raise ValueError(f"margin must be at least 0, got {margin}")
    check_memory(memory)
    if not 0 < fading <= 1:
        raise ValueError(f"fading must lie in (0, 1], got {fading}")
    return ByLoad(float(expected), float(margin), float(memory), float(fading), name)
