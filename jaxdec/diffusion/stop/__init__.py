"""Early stops: when all that is left of a group is committed at once."""

from jaxdec.diffusion.stop.contract import Stop
from jaxdec.diffusion.stop.prophet import Prophet, prophet

__all__ = [
    "Prophet",
    "Stop",
    "prophet",
]
