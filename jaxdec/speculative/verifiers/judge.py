"""Judge decoding: a linear head on the target's state after a draft says whether the draft is right.

Legend: B rows, N drafts of a chain, T = N + 1 scored tokens, D width, V vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import check_type
from jaxdec.decoding import Exactness, Knob, Request, Scored, Settings
from jaxdec.model import Params
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.law import RatioVerifier, TreeLaw, column
from jaxdec.speculative.verifiers.token_ratio import first_failure, token_law


def linear_judge(params: Params, hidden: jax.Array) -> jax.Array:
    """Logits float32 `[...]` that tokens are right, of the target's states `[..., D]` after them.

        l = w . h + b

    Args:
      params: `{"kernel": w [D], "bias": b []}`.
      hidden: `[..., D]`.
    """
    product = jnp.einsum("...d,d->...", hidden, params["kernel"].astype(hidden.dtype))
    return (product + params["bias"]).astype(jnp.float32)


def judge_law(
    p: jax.Array, q: jax.Array, tokens: jax.Array, mask: jax.Array, liked: jax.Array
) -> TreeLaw:
    """The token rule, but for drafts that a judge likes, which pass: `token_law` with tests that cannot fail.

    After a failure at draft i, which the judge did not like, the closing token has the law `[p_i - q_i]+`, normalised.

    Args:
      p: `[B, N + 1, V]`, target laws after 0, ..., N drafts.
      q: `[B, N, V]`, the laws that the drafts were drawn from.
      tokens: int32 `[B, N]`, the drafts.
      mask: bool `[B, N]`, those that exist.
      liked: bool `[B, N]`, those that the judge likes.
    """
    law = token_law(p, q, tokens, mask)
    sure = mask & liked
    return TreeLaw(
        jnp.where(sure, 1, law.numerator), jnp.where(sure, 0, law.denominator), law.closing
    )


@dataclasses.dataclass(frozen=True)
class Judge(RatioVerifier):
    """Judge decoding: a draft is kept if a head calls it right, or the token rule accepts it.

        keep x_i   iff   u_i q_i(x_i) < p_i(x_i)   or   sigmoid(score(h_i)) > judge_threshold

    h_i is the target's state after it has read x_i itself, which the forward that scores the drafts gives for nothing.
    The longest prefix of kept drafts is followed by a token of the token rule's law: that of what the target has too
    much of, `[p - q]+`, or of p itself after all drafts.

    *Given the judge*, with J the tokens that it likes after a text, a round emits first a token of the law f with

        TV(f, p) = sum of [q(x) - p(x)]+ over x in J   <=   TV(q, p),

    and no closer bound: whatever the judge likes passes as often as it is drafted. A threshold of 1 is `TokenRatio`; of
    0 (where no score is rounded to 0) all drafts pass.

    Its parameters are those of the score: for `linear_judge`, `{"kernel": [D], "bias": []}`.

    Attributes:
      judge_threshold: the default of the traced setting, in [0, 1].
      score: `(params, hidden [..., D]) -> logits [...]`.
      name: of the head in `params`.
      liked: of a round, bool `[B, N]`; set by the loop.

    Raises:
      ValueError: for a threshold out of [0, 1], or a score that is no function; where the request is, for parameters
        that are no linear head.

    Exactness: approximate(judge_threshold); at temperature 0 and a threshold of 1 the tokens of plain decoding.
    Source: judge decoding, 2501.19309. Chains alone. Its head learnt from drafts whose errors people marked; that of
    `code-judge` from drafts that differ from the text.
    """

    judge_threshold: float | jax.Array = 0.5
    score: Callable[[Params, jax.Array], jax.Array] = linear_judge
    name: str = "judge"
    _: dataclasses.KW_ONLY
    liked: jax.Array | None = dataclasses.field(default=None, init=False)
    exactness: Exactness = Exactness.APPROXIMATE
    chains_only: bool = True

    def __post_init__(self):
        check_type("name", self.name, str)
        if not callable(self.score):
            raise ValueError(f"score must be a function, got a {type(self.score).__name__}")
        check_type("judge_threshold", self.judge_threshold, float)
        if not 0 <= self.judge_threshold <= 1:
            raise ValueError(f"judge_threshold must lie in [0, 1], got {self.judge_threshold}")

    @property
    def knobs(self) -> dict[str, Knob]:
        """The threshold."""
        return {"judge_threshold": Knob(float(self.judge_threshold), 0, 1)}

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a linear head that is missing or none."""
        super().check(request, params)
        if self.score is not linear_judge:
            return
        own: Any = self.own(params)
        shapes = {name: jnp.shape(x) for name, x in own.items()} if isinstance(own, dict) else own
        if not isinstance(own, dict) or set(own) != {"kernel", "bias"}:
            got = sorted(own) if isinstance(own, dict) else type(own).__name__
            raise ValueError(f"{self.name!r} must hold a kernel [D] and a bias [], got {got}")
        if len(shapes["kernel"]) != 1 or shapes["bias"]:
            raise ValueError(f"{self.name!r} must hold a kernel [D] and a bias [], got {shapes}")

    def settled(self, params: Params, settings: Settings, scored: Scored) -> RatioVerifier:
        """With the drafts of each row that the judge likes."""
        hidden = scored.hidden[:, 1:]  # after the drafts, not before them
        bar = column(settings.knobs["judge_threshold"], 2)
        liked = jax.nn.sigmoid(self.score(params, hidden)) > bar
        return self.of_step(liked=liked)

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `judge_law`."""
        assert self.liked is not None
        return judge_law(p, q, tree.tokens, tree.mask, self.liked)

    def last(self, passed: jax.Array, tree: DraftTree) -> jax.Array:
        """The draft before the first failure."""
        return first_failure(passed)
