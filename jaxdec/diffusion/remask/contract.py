"""Remask rules take committed tokens of the active group back.

Legend: B rows, W positions of the active group.
"""

import abc
from typing import Any

import jax

from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import Knobs


class Remask(abc.ABC):
    """Takes committed tokens of the active group back. Subclasses are frozen dataclasses; all methods are pure."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings."""
        return {}

    def init(self, batch: int, window: int) -> Any:
        """The state at the beginning of a group."""
        return None

    @abc.abstractmethod
    def take_back(
        self, seen: Candidates, reveal: jax.Array, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Which positions are masked again, bool `[B, W]`, given those that the step commits; fewer than those."""
