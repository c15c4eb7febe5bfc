"""How long a sequence a draft model must read."""

import jax
import numpy as np

from jaxdec.decoding import Request
from jaxdec.model import Model


def check_length(model: Model, request: Request) -> None:
    """Raises `ValueError` if a row may become longer than the draft model's `max_length`; traced values pass."""
    longest, lengths, budgets = model.max_length, request.lengths, request.settings.max_new_tokens
    if longest is None or request.capacity <= longest:
        return
    if isinstance(lengths, jax.core.Tracer) or isinstance(budgets, jax.core.Tracer):
        return
    given, asked = np.asarray(lengths), np.asarray(budgets)
    row = int(np.argmax(given + asked))
    if given[row] + asked[row] > longest:
        raise ValueError(
            f"prompt {row} has {given[row]} tokens and asks for {asked[row]} more; the draft model's capacity is "
            f"{longest}"
        )
