"""A target that leans towards the drafter: the plain knob between speed and the law.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import check_type
from jaxdec.decoding import Exactness, Knob, Scored, Settings
from jaxdec.model import Params
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.law import RatioVerifier, TreeLaw, column
from jaxdec.speculative.verifiers.recursive_rejection import RecursiveRejection


def mixed_law(p: jax.Array, q: jax.Array, tree: DraftTree, mix: float | jax.Array) -> jax.Array:
    """The laws `[B, T, V]` that are decoded: `(1 - mix) p + mix q_1`, and p where nothing was drafted.

    Args:
      p: `[B, T, V]`, target laws after each scored token.
      q: `[B, N, V]`; q_1 is that of the first child that exists.
      tree: tokens, parents and mask.
      mix: in [0, 1], one value or `[B]`.
    """
    hangs = tree.mask[:, None] & (tree.parents[:, None] + 1 == jnp.arange(p.shape[1])[:, None])
    below = jnp.take_along_axis(q, jnp.argmax(hangs, axis=-1)[..., None], axis=1)
    share = jnp.where(hangs.any(-1, keepdims=True), column(mix, 3), 0)
    return (1 - share) * p + share * below


@dataclasses.dataclass(frozen=True)
class MixedTarget(RatioVerifier):
    """Decodes a mixture of the target's law and the drafter's, by a verifier that is exact for any law.

        f(v | x) = (1 - mix) p(v | x) + mix q(v | x)

    after each scored token with a draft below it, p itself elsewhere; q is the law that the first of its drafts was
    drawn from (one-hot for a chosen one). A round emits the law f, so that token by token

        TV(f, p) = mix TV(p, q) <= mix,

    and over L tokens the distance is at most `L mix`. A draft is accepted with probability `1 - (1 - mix) TV(p, q)` on
    a chain. At temperature 0 p and q are one-hot, and a draft that the target would not choose passes with probability
    `mix`.

    Attributes:
      rule: judges against f; any that subclasses `RatioVerifier`.
      mix: the default of the traced setting, in [0, 1]; 0 is the rule itself.

    Raises:
      ValueError: for a mix outside of [0, 1].

    Exactness: approximate(mix).
    Source: the mixture that relaxed rules are measured by; ours as a verifier.
    """

    rule: RatioVerifier = dataclasses.field(default_factory=RecursiveRejection)
    mix: float | jax.Array = 0.1
    _: dataclasses.KW_ONLY
    exactness: Exactness = Exactness.APPROXIMATE

    def __post_init__(self):
        check_type("rule", self.rule, RatioVerifier)
        check_type("mix", self.mix, float)
        if not 0 <= self.mix <= 1:
            raise ValueError(f"mix must lie in [0, 1], got {self.mix}")
        for name in ("chains_only", "needs_independence"):
            object.__setattr__(self, name, getattr(self.rule, name))

    @property
    def knobs(self) -> dict[str, Knob]:
        """`mix`, and those of the rule."""
        return {**self.rule.knobs, "mix": Knob(float(self.mix), 0, 1)}

    def settled(self, params: Params, settings: Settings, scored: Scored) -> RatioVerifier:
        """With the mix of each row, and the rule's own settings."""
        rule = self.rule.settled(params, settings, scored)
        return self.of_step(rule=rule, mix=settings.knobs["mix"])

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """The rule's law for the mixture."""
        return self.rule.law(mixed_law(p, q, tree, self.mix), q, tree)

    def last(self, passed: jax.Array, tree: DraftTree) -> jax.Array:
        """As the rule has it."""
        return self.rule.last(passed, tree)
