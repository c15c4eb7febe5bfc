"""Drafting with a network that predicts the target's next k features at once: Falcon."""

from jaxdec.arguments import typed
from jaxdec.model import Model
from jaxdec.speculative.drafters.eagle import EagleDrafter
from jaxdec.speculative.drafters.heads import likeliest
from jaxdec.speculative.growth import Growth


@typed
def falcon(
    model: Model, *, block: int = 2, growth: Growth | None = None, name: str = "draft"
) -> EagleDrafter:
    """Drafts k tokens a forward with a network that predicts the k next features of the target from the last k pairs.

        f'_{i+1}, ..., f'_{i+k};   q_r(x_{i+1+r}) read from f'_{i+r},   r = 1, ..., k
            = network(..., (f_{i-k+1}, x_{i-k+2}), ..., (f_i, x_{i+1}))

    The pair of slot j gives the feature k places on; the last k pairs see one another, which EAGLE's do not. Laws of a
    block do not depend on the drafts within it. Each block that was chosen, with the features that were predicted for
    it, is the last k pairs of the next: a tree of blocks, and a k-th of EAGLE's forwards. The last k - 1 committed
    pairs are read again with what comes after them. A row of k tokens or fewer is decoded plainly.

    Args:
      model: such as `jaxdec.models.Falcon` with the same k; it reads `Inputs.features` and, to sum pairs up,
        `Inputs.before`.
      block: k, at least 1; 1 is `eagle`.
      growth: from `jaxdec.growth`, of any number of levels; the tree of the 60 likeliest paths of 4 k levels if not
        given, or fewer if there are no more.
      name: of its parameters in the `params` of `generate`.

    Raises:
      ValueError: for a block below 1; else as `eagle`.

    Exactness: that of the verifier; a rule that asks for laws gets those that were drawn from, given the blocks before.
    Source: 2412.12639, with dynamic trees for its static one (`growth.fixed` takes any).
    """
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    growth = likeliest(4 * block, model.vocab_size) if growth is None else growth
    return EagleDrafter(model, growth, name, block)
