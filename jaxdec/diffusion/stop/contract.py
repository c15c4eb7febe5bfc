"""Stops commit all that is left of a group early.

Legend: B rows.
"""

import abc

import jax

from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import Knobs


class Stop(abc.ABC):
    """Ends a group early by committing all that is left. Subclasses are frozen dataclasses; all methods are pure."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings."""
        return {}

    @abc.abstractmethod
    def now(self, seen: Candidates, knobs: Knobs) -> jax.Array:
        """Which rows commit everything now, bool `[B]`."""
