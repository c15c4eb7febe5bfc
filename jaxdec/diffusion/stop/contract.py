"""Stops commit all that is left of a group early.

Legend: B rows.
"""

import abc
from typing import Any

import jax

from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import GroupPart, Knobs
from jaxdec.model import Params


class Stop(GroupPart):
    """Ends a group early by committing all that is left."""

    @abc.abstractmethod
    def now(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Which rows commit everything now, bool `[B]`, and the next state."""
