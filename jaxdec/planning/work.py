"""What a step moves and computes at least, and the time that it cannot beat.

    seconds = max(bytes / bandwidth, flops / peak) + bytes sent / bandwidth of the links

The least bytes of a step: each weight that a forward needs once (a drafter's once a forward of its own), each visible
key and value once, and each logit written once. All figures are those of one chip.
"""

import math
from typing import Any

import jax
from jax.sharding import NamedSharding

from jaxdec.model import Params
from jaxdec.parallel import Placement
from jaxdec.planning.chips import Chip
from jaxdec.planning.counts import Counts


def share(tree: Any, specs: Any, placement: Placement) -> int:
    """Bytes of arrays, or of their shapes, on one device.

    Args:
      tree: arrays.
      specs: a partition spec for each.
      placement: the mesh.
    """

    def held(array: Any, spec: Any) -> int:
        shape = NamedSharding(placement.mesh, spec).shard_shape(array.shape)
        return math.prod(shape) * array.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(held, tree, specs)))


def weights(params: dict[str, Params], placement: Placement) -> dict[str, dict[str, int]]:
    """Bytes of weights on one device, by part.

    Returns:
      For each part `held`, all of them, and `read`, those that a forward needs whole: all but an embedding that is not
      the output matrix too.
    """
    specs = placement.specs(params)
    found = {}
    for part, tree in params.items():
        whole = share(tree, specs[part], placement)
        looked_up = 0
        if "lm_head" in tree and "embed_tokens" in tree:
            looked_up = share(tree["embed_tokens"], specs[part]["embed_tokens"], placement)
        found[part] = {"held": whole, "read": whole - looked_up}
    return found


def least_bytes(
    *,
    weights: int,
    draft_weights: int,
    keys: int,
    draft_keys: int,
    depth: int,
    rows: int,
    tokens: int,
    vocab_size: int,
) -> dict[str, int]:
    """The least bytes of a step, on one chip.

    Args:
      weights: bytes that a forward of the target needs.
      draft_weights: likewise of what drafts.
      keys: bytes of visible keys and values.
      draft_keys: likewise of what drafts.
      depth: forwards of what drafts in a step.
      rows: on the chip.
      tokens: scored in a forward, a row.
      vocab_size: its share on the chip.
    """
    return {
        "weights": weights,
        "keys": keys,
        "drafting": depth * (draft_weights + draft_keys),
        "outputs": rows * tokens * vocab_size * 4,
    }


def seconds(chip: Chip, step: dict[str, float]) -> float:
    """The time that a step cannot beat.

    Args:
      chip: its figures.
      step: `bytes` moved, `flops`, and bytes `sent`.
    """
    arithmetic = max(step["bytes"] / chip.bandwidth, step["flops"] / chip.flops)
    return arithmetic + step["sent"] / chip.links


def told(counts: Counts) -> dict[str, Any]:
    """Counts of a step as JSON, collectives of one kind together."""
    groups: dict[str, dict[str, float]] = {}
    for held in counts.collectives:
        name = f"{held.operation} {'+'.join(held.kinds)} over {held.group}"
        group = groups.setdefault(name, {"times": 0, "bytes": 0})
        group["times"] += held.times
        group["bytes"] += held.nbytes * held.times
    return {
        "bytes": counts.nbytes,
        "moved": dict(counts.moved),
        "flops": counts.flops,
        "sent": sum(held.sent for held in counts.collectives),
        "collectives": groups,
        "kernels": dict(counts.kernels),
    }


def along(first: Any, second: Any, at: float) -> Any:
    """Numbers on the line from `first` (at 0) to `second` (at 1), nested alike; what one lacks is 0 there.

    None, what is not known of one of them, gives None.
    """
    if first is None or second is None:
        return None
    if isinstance(first, dict) or isinstance(second, dict):
        first, second = first or {}, second or {}
        return {
            name: along(first.get(name, 0), second.get(name, 0), at) for name in {**first, **second}
        }
    if isinstance(first, list):
        return [along(a, b, at) for a, b in zip(first, second, strict=True)]
    value = first + (second - first) * at
    return max(0, round(value)) if isinstance(first, int) and isinstance(second, int) else value
