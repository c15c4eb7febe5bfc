"""Acceptance of what is nearly the target's best.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import check_type
from jaxdec.decoding import Knob, Scored
from jaxdec.speculative.contract import Context
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.accepting import AcceptingVerifier
from jaxdec.speculative.verifiers.law import at_parents, at_tokens


@dataclasses.dataclass(frozen=True)
class NearGreedy(AcceptingVerifier):
    """Accepts a draft that is among the target's likeliest tokens and not far behind the likeliest.

    With z the target's logits after the parent, penalties and bans in them, child x is accepted iff

        fewer than `beta` tokens have a higher logit   and   max z - z(x) <= `tau`.

    The longest accepted path is kept, of several the most probable one, and followed by a draw from the target's warped
    law with the noise of its position; at temperature 0 by the likeliest token. Both knobs are traced settings. A token
    that the warp removes is not accepted.

    What is bounded is how unlikely a token may be: every accepted one has `log p(x) >= log max p - tau` under the
    target's own law. With `beta = 1` (and any tau) it is greedy decoding for rows of temperature 0; what a row of
    another temperature accepts is not sampled from its law.

    Attributes:
      beta: the default of its setting, at least 1.
      tau: the default of its setting, at least 0, in nats.

    Raises:
      ValueError: where the request is, for other values.

    Exactness: heuristic; the tokens of plain decoding for `beta = 1` at temperature 0.
    Source: GAD+ of 2205.10350, beta 3 to 5 and tau 1 to 3 there.
    """

    beta: int = 3
    tau: float = 1.0

    def __post_init__(self):
        check_type("beta", self.beta, int)
        check_type("tau", self.tau, float)

    @property
    def knobs(self) -> dict[str, Knob]:
        """The defaults of the two settings, and their limits."""
        return {"beta": Knob(self.beta, 1, integer=True), "tau": Knob(self.tau, 0)}

    def accepted(
        self, tree: DraftTree, scored: Scored, log_probs: jax.Array, context: Context
    ) -> tuple[jax.Array, jax.Array]:
        """See `AcceptingVerifier`; worth is the logit."""
        knobs = context.settings.knobs
        law, logits = context.settings.warp.staged(scored.logits, context.history)
        # The law of rows at temperature 0 is one-hot, and says nothing of what filters remove.
        greedy = (law == 0).any(-1, keepdims=True)
        logits = jnp.where(greedy | (law > -jnp.inf), logits, -jnp.inf)
        above = at_parents(logits, tree.parents)
        own = at_tokens(above, tree.tokens)
        better = (above > own[..., None]).sum(-1)
        near = above.max(-1) - own <= knobs["tau"][:, None]
        return near & (better < knobs["beta"][:, None]), own
