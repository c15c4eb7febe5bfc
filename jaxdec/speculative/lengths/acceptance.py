"""Draft lengths by each row's own acceptance.

Legend: B rows, K drafts.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Rows
from jaxdec.model import Params
from jaxdec.speculative.lengths.contract import Acceptance, Ladder, LengthRule, check_memory


@dataclasses.dataclass(frozen=True)
class ByAcceptance(LengthRule):
    """See `by_acceptance`."""

    draft_cost: float
    memory: float

    def check_ladder(self, ladder: Ladder) -> None:
        """Raises `ValueError` for a length of 0."""
        if ladder.drafts[0] < 1:
            raise ValueError(
                f"by_acceptance takes lengths of at least 1, got {ladder.drafts[0]}: a row that drafts nothing would "
                "never learn that drafts pass again"
            )

    def choose(
        self, params: Params | None, acceptance: Acceptance, rows: Rows, ladder: Ladder
    ) -> jax.Array:
        """Whatever makes the most of each row's own price."""
        price = 1 + self.draft_cost * jnp.asarray(ladder.drafts, jnp.float32)
        return jnp.argmax(ladder.tokens(acceptance) / price, axis=1).astype(jnp.int32)

    def learn(
        self, acceptance: Acceptance, accepted: jax.Array, tested: jax.Array, asked: jax.Array
    ) -> Acceptance:
        """Steps with a test make older ones weigh less."""
        older = jnp.where(tested > 0, jnp.float32(self.memory), 1)
        return Acceptance(
            older * acceptance.accepted + accepted, older * acceptance.tested + tested
        )


def by_acceptance(*, draft_cost: float = 0.1, memory: float = 0.9) -> ByAcceptance:
    """Each row drafts as many as its own acceptance so far makes worth while.

        K = argmax_K (s + (1 - a^(K - s + 1)) / (1 - a)) / (1 + draft_cost K)

    with a the share of tested drafts that passed lately and s drafts that always do.

    Args:
      draft_cost: seconds that one more draft costs, over those of a step without any; depends on the machine.
      memory: weight in (0, 1] of the past at each step.

    Raises:
      ValueError: for a negative cost or a memory outside of (0, 1]; in `adaptive`, for a length of 0.

    Exactness: a row's length depends on the row alone.
    """
    if not draft_cost >= 0:
        raise ValueError(f"draft_cost must be at least 0, got {draft_cost}")
    check_memory(memory)
    return ByAcceptance(float(draft_cost), float(memory))
