"""No cache."""

from jaxdec.diffusion.refresh.contract import Refresh


def none() -> Refresh:
    """No cache: every step computes every position. The reference."""
    return Refresh()
