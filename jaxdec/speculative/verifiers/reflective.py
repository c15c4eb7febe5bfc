"""A second opinion of the target in the same forward: what it says after it was asked whether the drafts are right.

Legend: B rows, N drafts of a chain, T = N + 1 scored tokens, M tokens of the question, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.arguments import check_type
from jaxdec.decoding import Exactness, Knob, Request, Scored
from jaxdec.model import Params
from jaxdec.speculative.contract import Context
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.law import RatioVerifier, TreeLaw, column
from jaxdec.speculative.verifiers.token_ratio import first_failure, token_law


@dataclasses.dataclass(frozen=True)
class Reflective(RatioVerifier):
    """Reflective verification: the target reads the drafts, a question and the drafts again, in one forward.

        f_i = (1 - reflection) p_i + reflection r_i,   p_i = p(. | text, d_<i),   r_i = p(. | text, d, question, d_<i)

    Draft i is judged against f_i by the token rule; after the last draft the law is p. The question and the second copy
    are never committed, and cost `M + N` further tokens of the forward.

    Of *chosen* drafts a round emits the law f, so that token by token `TV(f, p) = reflection TV(r, p) <= reflection`.
    Of *drawn* drafts r depends on the draws, which it has read and may repeat: there is no such bound.

    Its parameters are the question, int32 `[M]`.

    Attributes:
      reflection: the default of the traced setting, in [0, 1]; 0 is `TokenRatio`.
      name: of the question in `params`.

    Raises:
      ValueError: for a weight out of [0, 1]; where the request is, for a question that is none, or an order.

    Exactness: approximate(reflection).
    Source: reflective verification, 2505.18629, in the mixture of probabilities; the published rule is not known in
    detail. Chains alone; a tree would need a copy for each of its paths.
    """

    reflection: float | jax.Array = 0.3
    name: str = "reflection"
    _: dataclasses.KW_ONLY
    exactness: Exactness = Exactness.APPROXIMATE
    chains_only: bool = True

    def __post_init__(self):
        check_type("name", self.name, str)
        check_type("reflection", self.reflection, float)
        if not 0 <= self.reflection <= 1:
            raise ValueError(f"reflection must lie in [0, 1], got {self.reflection}")

    @property
    def knobs(self) -> dict[str, Knob]:
        """The weight."""
        return {"reflection": Knob(float(self.reflection), 0, 1)}

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a question that is missing or none, or a request with an order."""
        super().check(request, params)
        question: Any = self.own(params)
        array = isinstance(question, jax.Array | np.ndarray)
        if not array or question.ndim != 1 or not question.size:
            got = list(question.shape) if array else type(question).__name__
            raise ValueError(
                f"{self.name!r} must be the tokens of a question, int32 [M], got {got}"
            )
        if not jnp.issubdtype(question.dtype, jnp.integer):
            raise ValueError(f"{self.name!r} must be int32 [M], got {question.dtype}")
        if request.order is not None:
            raise ValueError("Reflective reads left to right, not in an order of the request")

    def asides(
        self, params: Params, tree: DraftTree, context: Context
    ) -> tuple[jax.Array, jax.Array]:
        """The question after the last draft, and the drafts again."""
        question = jnp.asarray(params, jnp.int32)
        batch, drafts = tree.tokens.shape
        asked = jnp.broadcast_to(question, (batch, len(question)))
        tokens = jnp.concatenate([asked, tree.tokens], axis=1)
        above = jnp.broadcast_to(drafts + jnp.arange(tokens.shape[1]), tokens.shape)
        return tokens, above.at[:, 0].set(tree.mask.sum(-1))

    def judged(self, p: jax.Array, tree: DraftTree, scored: Scored, context: Context) -> jax.Array:
        """The mixture, where there is a draft."""
        assert scored.asides is not None
        drafts = tree.tokens.shape[1]
        after = scored.asides[:, scored.asides.shape[1] - drafts - 1 : -1]  # r_1, ..., r_N
        logits = jnp.concatenate([after, scored.logits[:, -1:]], axis=1)
        again = jnp.exp(context.settings.warp.log_probs(logits, context.history))
        drafted = jnp.pad(tree.mask, ((0, 0), (0, 1)))[..., None]
        share = column(self.reflection, 3)
        return jnp.where(drafted, (1 - share) * p + share * again, p)

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """The token rule, for laws that are judged by."""
        return token_law(p, q, tree.tokens, tree.mask)

    def last(self, passed: jax.Array, tree: DraftTree) -> jax.Array:
        """The draft before the first failure."""
        return first_failure(passed)
