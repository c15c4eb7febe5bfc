"""What the training of draft heads compares with the target.

Legend: B rows, N places, D width, V vocabulary.
"""

from typing import NamedTuple

import jax
import numpy as np

from jaxdec.training.objectives import Predictions


class Drafted(NamedTuple):
    """Laws of drafts of one depth.

    Attributes:
      predictions: `[B, N, V]`.
      features: `[B, N, D]`, predicted states of the target, or None.
      places: integers `[N]`, the places of the target's own laws and states of the same tokens.
    """

    predictions: Predictions
    features: jax.Array | None
    places: np.ndarray
