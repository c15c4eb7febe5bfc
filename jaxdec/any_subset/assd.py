"""Any-subset speculative decoding (ASSD), and the fused form: names for pairs of drafter and verifier."""

from jaxdec.any_subset.drafters import context_ngram, fused_draft, self_draft
from jaxdec.model import Model
from jaxdec.speculative import Speculative, Verifier, speculative

_DRAFTS = {"self": self_draft, "ngram": context_ngram}


def assd(
    model: Model,
    *,
    width: int = 6,
    draft: str = "self",
    verifier: Verifier | None = None,
    bonus: bool = True,
) -> Speculative:
    """Any-subset speculative decoding.

    A window of K masked positions is drafted at once and scored in one forward, in which each position also sees the
    drafts before it; the longest prefix that the verifier accepts is kept, and one more token.

    Args:
      model: answers queries (`any_subset.two_stream`, `any_subset.masked_rows`).
      width: K, at least 2.
      draft: "self", the model itself with one more forward, or "ngram", the bigrams of the row.
      verifier: the shared-noise walk if not given; `verifiers.TokenRatio()` is the published rule.
      bonus: one more token after a window that is accepted whole; the published algorithm has none.

    Raises:
      ValueError: if `width < 2`, or there is no such draft.

    Exactness: the verifier's, relative to sequential decoding in the same order. Forwards never exceed tokens.
    Source: Guo and Ermon, 2504.20456. Ours caches committed tokens, decodes ragged batches, renormalises laws without
    the mask token, and adds the bonus.
    """
    if draft not in _DRAFTS:
        raise ValueError(f"draft must be one of {', '.join(_DRAFTS)}, got {draft!r}")
    return speculative(
        model, drafter=_DRAFTS[draft](model, width=width), verifier=verifier, bonus=bonus
    )


def fused(
    model: Model,
    *,
    width: int = 4,
    outcomes: int | None = None,
    siblings: int = 0,
    verifier: Verifier | None = None,
) -> Speculative:
    """ASSD in one forward a step: the forward that verifies a window also drafts the next; see `fused_draft`.

    Args:
      model: answers queries.
      width: K, at least 2.
      outcomes: numbers of accepted drafts that are drafted for; all K + 1 if not given.
      siblings: first drafts that have their runner-up beside them; for verifiers that judge trees.
      verifier: the shared-noise walk if not given.

    Raises:
      ValueError: if a size is out of range, or the verifier judges chains and there are siblings.

    Exactness: the verifier's, relative to sequential decoding in the same order. Each forward gives a token or more.
    """
    drafter = fused_draft(model, width=width, outcomes=outcomes, siblings=siblings)
    return speculative(model, drafter=drafter, verifier=verifier)
