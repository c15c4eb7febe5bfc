"""What all filters of a pipeline keep.

Legend: B rows, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.sampling.broadcast import by_row
from jaxdec.sampling.filters.contract import Filter
from jaxdec.sampling.filters.ranking import ranks, unsorted


def kept_by(
    filters: Sequence[Filter], knobs: Mapping[str, Any], logits: jax.Array, tempered: jax.Array
) -> jax.Array:
    """Which tokens every filter keeps, bool `[B, ..., V]`.

    Args:
      filters: in their order; each reads the law renormalised after those before it.
      knobs: of the filters by name; a filter without one is left out.
      logits: `[B, ..., V]`, before the temperature.
      tempered: `[B, ..., V]`, after it.
    """
    present = [stage for stage in filters if knobs.get(stage.name) is not None]
    order = None
    if not all(stage.any_order for stage in present):
        # Ranked by the logits before temperature, whose division could merge distinct values.
        _, tempered, order = jax.lax.sort(
            (-logits, tempered, ranks(logits)), num_keys=1, is_stable=True
        )
    for stage in present:
        log_probs = jax.nn.log_softmax(tempered)
        keep = stage.keep(log_probs, by_row(knobs[stage.name], logits.ndim))
        tempered = jnp.where(keep, tempered, -jnp.inf)
    kept = tempered > -jnp.inf
    return kept if order is None else unsorted(kept, order)
