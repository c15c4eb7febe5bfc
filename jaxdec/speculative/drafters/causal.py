"""What drafters share that draft from left to right."""

from jaxdec.decoding import Request
from jaxdec.model import Params
from jaxdec.speculative.contract import Drafter


class CausalDrafter(Drafter):
    """A drafter that goes by what is adjacent in the text, and so cannot follow an order of the request."""

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a request with an order, or missing parameters."""
        super().check(request, params)
        if request.order is not None:
            raise ValueError(
                f"{type(self).__name__} drafts left to right, not in an order of the request"
            )
