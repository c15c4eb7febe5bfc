"""Fusions change the logits by those of earlier steps.

Legend: B rows, W positions of the active group, V vocabulary.
"""

import abc
import dataclasses
from typing import Any

import jax

from jaxdec.decoding import Scored, Settings
from jaxdec.diffusion.contract import GroupPart, Knobs
from jaxdec.model import Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Standing:
    """What stands on the active group before a step.

    Attributes:
      masked: bool `[B, W]`, positions that are to be filled.
      tokens: int32 `[B, W]`, elsewhere.
      there: bool `[B, W]`, whether there is such a position.
      opened: int32 `[B]`, positions that the group had to fill when it began.
      settings: of the request.
      hypotheses: H, adjacent rows of one prompt; static.
    """

    masked: jax.Array
    tokens: jax.Array
    there: jax.Array
    opened: jax.Array
    settings: Settings
    hypotheses: int = dataclasses.field(default=1, metadata={"static": True})


class Fuse(GroupPart):
    """Changes the logits of the active group, before anything is drawn."""

    @abc.abstractmethod
    def fuse(
        self, params: Params, scored: Scored, standing: Standing, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """New logits float32 `[B, W, V]`, and the next state.

        Args:
          params: the fusion's own.
          scored: the forward over the group.
          standing: what stands there.
          state: as `init` made it, or the last step.
          knobs: traced settings.
        """
