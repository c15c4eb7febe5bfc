"""Fusions change the logits of a step by those of earlier steps.

Legend: B rows, W positions of the active group, V vocabulary.
"""

import abc
from typing import Any

import jax

from jaxdec.decoding import Knob
from jaxdec.diffusion.contract import Knobs


class Fuse(abc.ABC):
    """Changes the logits of a step by those of earlier steps. Subclasses are frozen dataclasses; methods are pure."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings."""
        return {}

    def init(self, batch: int, window: int) -> Any:
        """The state at the beginning of a group."""
        return None

    @abc.abstractmethod
    def fuse(
        self, logits: jax.Array, masked: jax.Array, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """New logits `[B, W, V]`, and the next state; `masked` bool `[B, W]`."""
