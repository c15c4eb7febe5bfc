"""What gates share that read a score: the scorer's parameters, and its cost."""

import dataclasses

from jaxdec.decoding import Request
from jaxdec.model import Params
from jaxdec.search.contract import Scorer
from jaxdec.search.gates.contract import Gate


@dataclasses.dataclass(frozen=True)
class ScoredGate(Gate):
    """A gate with a scorer; its parameters are the scorer's.

    Attributes:
      scorer: scores pasts; None for a rule that needs none.
    """

    scorer: Scorer | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The scorer's."""
        return () if self.scorer is None else self.scorer.names

    @property
    def draft_forwards(self) -> int:  # type: ignore[override]
        """The scorer's."""
        return 0 if self.scorer is None else self.scorer.forwards

    def check(self, request: Request, params: Params) -> None:
        """As the scorer."""
        if self.scorer is not None:
            self.scorer.check(request, params)

    def own(self, params: Params) -> Params | None:
        """The scorer's."""
        return None if self.scorer is None else self.scorer.own(params)
