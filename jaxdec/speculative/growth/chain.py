"""One path."""

from jaxdec.arguments import typed
from jaxdec.speculative.growth.fixed import Fixed
from jaxdec.speculative.tree import RankTree


@typed
def chain(length: int) -> Fixed:
    """A single path of `length` draws.

        x_d ~ q(. | x_{<d}),   d = 1, ..., `length`

    Raises:
      ValueError: if `length < 1`.

    Source: Leviathan et al. (2211.17192), Chen et al. (2302.01318).
    """
    if length < 1:
        raise ValueError(f"draft length must be at least 1, got {length}")
    return Fixed(RankTree.chain(length))
