"""The highest of many numbers, wherever they lie."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from pallas_kernels.dispatch import split_over


def top_k(values: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """As `jax.lax.top_k`: the highest along the last axis, lower places first among equals.

    Over a vocabulary that is split (`heads_over`), each device finds its own highest, and these alone are sent: the
    compiler by itself would sort what it has to send whole.

        top_k(v_1 ... v_n) = top_k(top_k(v_1) ... top_k(v_n))   for the parts v_d of n devices

    Args:
      values: `[..., V]`.
      count: k, static, at most V.

    Returns:
      The values `[..., k]`, and their places, int32.
    """
    axis = split_over()
    size = values.shape[-1]
    devices = 1 if axis is None else jax.sharding.get_abstract_mesh().shape[axis]
    if devices == 1 or size % devices or count > size // devices:
        return jax.lax.top_k(values, count)
    share = size // devices

    def own(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        best, places = jax.lax.top_k(values, count)
        places += share * jax.lax.axis_index(axis).astype(places.dtype)
        best, places = jax.lax.all_gather((best, places), axis, axis=values.ndim - 1, tiled=True)
        best, at = jax.lax.top_k(best, count)
        return best, jnp.take_along_axis(places, at, axis=-1)

    split = PartitionSpec(*(None,) * (values.ndim - 1), axis)
    whole = PartitionSpec()
    mapped = jax.shard_map(
        own, in_specs=split, out_specs=(whole, whole), axis_names={axis}, check_vma=False
    )
    return mapped(values)
