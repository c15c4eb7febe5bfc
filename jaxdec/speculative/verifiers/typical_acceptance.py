"""Typical acceptance: drafts that are likely enough, whatever law they came from.

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


@dataclasses.dataclass(frozen=True)
class TypicalAcceptance(AcceptingVerifier):
    """Accepts a draft that the target finds likely, where it finds anything likely.

    With H the entropy, in nats, of the target's law p after the parent, child x is accepted iff

        p(x) > min(posterior_threshold, posterior_alpha * exp(-H)).

    The longest accepted path is kept, of several the most probable one, and followed by a draw from p with the noise of
    its position. Both knobs are traced settings of a request.

    What is bounded is the support: every accepted token is more probable than the lower of `posterior_threshold` and
    `posterior_alpha / V`, and all others are draws from p. The distance to the target's law is not bounded: it is not
    sampled from. With `posterior_alpha < 1` the most probable token always passes; where both knobs leave a bar of 1,
    nothing does, and the tokens are those of plain decoding with the same key.

    Attributes:
      posterior_threshold: the highest bar.
      posterior_alpha: the bar of a law that is uniform over n tokens is `posterior_alpha / n`.

    Exactness: heuristic; at temperature 0 the same tokens as plain decoding.
    Source: Cai et al., 2401.10774.
    """

    posterior_threshold: float = 0.09
    posterior_alpha: float = 0.3

    def __post_init__(self):
        for name in ("posterior_threshold", "posterior_alpha"):
            check_type(name, getattr(self, name), float)

    @property
    def knobs(self) -> dict[str, Knob]:
        """The defaults of the two settings, and their limits."""
        return {
            "posterior_threshold": Knob(self.posterior_threshold, 0),
            "posterior_alpha": Knob(self.posterior_alpha, 0),
        }

    def accepted(
        self, tree: DraftTree, scored: Scored, log_probs: jax.Array, context: Context
    ) -> tuple[jax.Array, jax.Array]:
        """See `AcceptingVerifier`; worth is the log-probability."""
        knobs = context.settings.knobs
        probs = jnp.exp(log_probs)
        entropy = -jnp.where(probs > 0, probs * log_probs, 0).sum(-1)
        bar = knobs["posterior_alpha"][:, None] * jnp.exp(-entropy)
        bar = jnp.minimum(knobs["posterior_threshold"][:, None], bar)  # [B, T]
        rows, parents = jnp.arange(len(tree.tokens))[:, None], tree.parents + 1
        drafted = log_probs[rows, parents, tree.tokens]  # [B, N]
        typical = jnp.exp(drafted) > bar[rows, parents]
        return typical, drafted
