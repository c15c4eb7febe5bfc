"""What drafters share whose trees grow by a rule.

Legend: D levels, N nodes.
"""

import dataclasses

import jax

from jaxdec.decoding import Knob, Request
from jaxdec.model import Model, Params
from jaxdec.speculative.contract import Drafter
from jaxdec.speculative.growth import Growth


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GrownParams:
    """What the hooks of a drafter whose trees grow by a rule get as its own parameters.

    Attributes:
      source: of the network that knows the laws.
      growth: of the growth rule; None if it has no weights.
    """

    source: Params
    growth: Params | None


class Grown(Drafter):
    """A drafter whose trees grow by a rule, from laws that it knows; its own parameters are `GrownParams`.

    Attributes:
      growth: the rule.
    """

    growth: Growth

    def own(self, params: Params) -> GrownParams:
        """The parameters of what knows the laws, and those of the rule."""
        return GrownParams(super().own(params), self.growth.own(params))

    @property
    def names(self) -> tuple[str, ...]:
        """Its own, and the rule's."""
        return (*super().names, *self.growth.names)

    @property
    def knobs(self) -> dict[str, Knob]:
        """Those of the rule."""
        return self.growth.knobs

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for what the rule cannot serve, or missing parameters."""
        super().check(request, params)
        self.growth.check(request, params)

    def check_target(self, target: Model) -> None:
        """Raises `ValueError` for another vocabulary, or one of fewer tokens than a node can have children."""
        super().check_target(target)
        if self.growth.branching > target.vocab_size:
            raise ValueError(
                f"a node has up to {self.growth.branching} children, but the vocabulary only {target.vocab_size} tokens"
            )

    @property
    def depth(self) -> int:  # type: ignore[override]
        """D."""
        return self.growth.depth

    @property
    def nodes(self) -> int:
        """N."""
        return self.growth.nodes

    @property
    def independent(self) -> bool:
        """Whether the rule draws siblings independently."""
        return self.growth.independent
