"""Whether what a placement puts on a device fits on it."""

from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from jaxdec.model import Params
from jaxdec.parallel.placement import Placement, over_caches, product
from jaxdec.parallel.rules import DATA, MODEL


def check_memory(placement: Placement, params: Params, state: Any) -> None:
    """Raises `ValueError` if parameters and the caches of a state are more than a device holds.

    A device that does not say how much it holds is not asked again: then `Placement.memory` is the only limit.

    Args:
      placement: where they are to lie.
      params: arrays or their shapes.
      state: likewise, of all rows and of the slots of one device.
    """
    limit = _limit(placement)
    if limit is None:
        return
    weights = placement.bytes_a_device(params, placement.specs(params))
    caches: list[int] = []

    def count(cache: Any) -> None:
        split = lambda spec: placement.part(spec, (DATA, MODEL))
        is_spec = lambda node: isinstance(node, P)
        specs = jax.tree.map(split, placement.cache_specs(cache), is_leaf=is_spec)
        caches.append(placement.bytes_a_device(cache, specs))

    over_caches(count, lambda leaf: None, state)
    if weights + sum(caches) > limit:
        raise ValueError(
            f"parameters of {weights:,} and caches of {sum(caches):,} bytes a device on a mesh of "
            f"{product(dict(placement.mesh.shape))} are more than its {limit:,} bytes"
        )


def _limit(placement: Placement) -> int | None:
    """Bytes that a device of the mesh holds; None if nobody says."""
    if placement.memory is not None:
        return placement.memory
    try:
        return (placement.mesh.devices.flat[0].memory_stats() or {}).get("bytes_limit")
    except RuntimeError:
        return None  # of a device that is not here, but in a topology or on another host
