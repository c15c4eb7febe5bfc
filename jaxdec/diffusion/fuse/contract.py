"""Fusions change the logits by those of earlier steps.

Legend: B rows, W positions of the active group, V vocabulary.
"""

import abc
from typing import Any

import jax

from jaxdec.decoding import Scored
from jaxdec.diffusion.contract import GroupPart, Knobs
from jaxdec.model import Params


class Fuse(GroupPart):
    """Changes the logits of the active group, before anything is drawn."""

    @abc.abstractmethod
    def fuse(
        self, params: Params, scored: Scored, masked: jax.Array, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """New logits float32 `[B, W, V]`, and the next state.

        Args:
          params: the fusion's own.
          scored: the forward over the group.
          masked: bool `[B, W]`.
          state: as `init` made it, or the last step.
          knobs: traced settings.
        """
