"""Typical acceptance: drafts that are likely enough, whatever law they came from.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import check_type
from jaxdec.decoding import Exactness, Knob, Scored
from jaxdec.model import Params
from jaxdec.sampling import Purpose, key_at, perturbed_argmax
from jaxdec.speculative.contract import Context, Verdict, Verifier
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.paths import furthest, lineage_path


@dataclasses.dataclass(frozen=True)
class TypicalAcceptance(Verifier):
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
    exactness: Exactness = Exactness.HEURISTIC
    shares_noise: bool = False
    chains_only: bool = False
    needs_independence: bool = False

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

    def verify(
        self,
        params: Params,
        tree: DraftTree,
        scored: Scored,
        log_probs: jax.Array,
        context: Context,
    ) -> Verdict:
        """See `jaxdec.speculative.contract.Verifier`."""
        knobs, warp = context.settings.knobs, context.settings.warp
        probs = jnp.exp(log_probs)
        entropy = -jnp.where(probs > 0, probs * log_probs, 0).sum(-1)
        bar = knobs["posterior_alpha"][:, None] * jnp.exp(-entropy)
        bar = jnp.minimum(knobs["posterior_threshold"][:, None], bar)  # [B, T]

        rows, parents = jnp.arange(len(tree.tokens))[:, None], tree.parents + 1
        drafted = log_probs[rows, parents, tree.tokens]  # [B, N]
        typical = jnp.exp(drafted) > bar[rows, parents]
        typical |= jnp.arange(tree.tokens.shape[1]) < tree.target_drawn
        lineage = tree.lineage()
        along = jnp.where(lineage[:, :, 1:] & typical[:, None], drafted[:, None], 0).sum(-1)
        last = furthest(lineage, tree.mask & typical, along)
        path, count = lineage_path(lineage, last, tree.depth)

        closing = jnp.take_along_axis(log_probs, last[:, None, None], axis=1)[:, 0]
        keys = lambda: key_at(context.keys, Purpose.TOKEN, context.rows.length + count)
        next_token = perturbed_argmax(closing, warp.noise(keys, closing.shape))
        return Verdict.of(tree, path, count, next_token, logits=scored.logits, log_probs=log_probs)
