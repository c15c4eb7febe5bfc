"""Any-subset speculative decoding (ASSD), and the fused form: names for pairs of drafter and verifier."""

from jaxdec.any_subset.drafters import context_ngram, fused_draft, self_draft
from jaxdec.arguments import typed
from jaxdec.model import Model
from jaxdec.speculative import Drafter, Speculative, Verifier, speculative


@typed
def assd(
    model: Model,
    *,
    width: int = 6,
    nodes: int | None = None,
    draft: str = "self",
    verifier: Verifier | None = None,
    bonus: bool = True,
) -> Speculative:
    """Any-subset speculative decoding.

        d_j ~ q_j,   p_j = p(. | x_{<n}, d_{<j}),   j = 0, ..., K - 1,   all p_j in one forward

    A window of K masked positions, those of the ranks n to n + K - 1, is drafted at once and scored in one forward, in
    which each position also sees the drafts before it; the longest prefix that the verifier accepts is kept, and one
    more token.

    Args:
      model: answers queries (`any_subset.two_stream`, `any_subset.masked_rows`).
      width: K, at least 2.
      nodes: N >= K, drafts in all, for self-drafts in a tree; the chain of K if not given.
      draft: "self", the model itself with one more forward, or "ngram", the bigrams of the row.
      verifier: the shared-noise walk if not given; `verifiers.TokenRatio()` is the published rule.
      bonus: one more token after a window that is accepted whole; the published algorithm has none.

    Raises:
      ValueError: if `width < 2`, or there is no such draft or tree.

    Returns:
      A decoder for `jaxdec.infill`; K + 1 tokens a step at most (K without the bonus).

    Exactness: the verifier's, relative to sequential decoding in the same order. In a row that no stop ends forwards
    never exceed tokens: the two of a step give two tokens or more, and where a single one is left one forward serves.
    An EOS token or a stop sequence may cut the second one off, and then there is one forward more than tokens.
    Source: Guo and Ermon, 2504.20456. Ours caches committed tokens, decodes ragged batches, renormalises laws without
    the mask token, and adds the bonus.
    """
    drafter: Drafter
    if draft == "self":
        drafter = self_draft(model, width=width, nodes=nodes)
    elif draft == "ngram" and nodes is None:
        drafter = context_ngram(model, width=width)
    else:
        raise ValueError(
            f"draft must be 'self', or 'ngram' without nodes, got {draft!r} and nodes {nodes}"
        )
    return speculative(model, drafter=drafter, verifier=verifier, bonus=bonus)


@typed
def fused(
    model: Model,
    *,
    width: int = 4,
    nodes: int | None = None,
    outcomes: int | None = None,
    verifier: Verifier | None = None,
) -> Speculative:
    """ASSD in one forward a step: the forward that verifies a window also drafts the next; see `fused_draft`.

        d_j ~ p(x_{n+j} | x_{<m}, d'_{<a}),   asked while the window d' from rank m on was verified; a of it stood

    Args:
      model: answers queries.
      width: K, at least 2.
      nodes: N >= K, drafts in all, in a tree; the chain of K if not given.
      outcomes: ends of a path that are drafted for; all N + 1 if not given.
      verifier: the shared-noise walk if not given.

    Raises:
      ValueError: if a size is out of range, or the verifier judges chains and the drafts are a tree.

    Returns:
      A decoder for `jaxdec.infill`; K + 1 tokens a step at most.

    Exactness: the verifier's, relative to sequential decoding in the same order. Each forward gives a token or more, in
    whatever way the row ends, so that forwards never exceed tokens.
    Source: ours; the idea extends 2504.20456.
    """
    drafter = fused_draft(model, width=width, nodes=nodes, outcomes=outcomes)
    return speculative(model, drafter=drafter, verifier=verifier)
