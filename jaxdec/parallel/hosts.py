"""Many hosts: one program in a process each, one mesh over the devices of all.

Every process runs the same calls with the same arguments (`jax.distributed.initialize` first): prompts, keys and
parameters are ordinary arrays in each, of which it puts on its own devices what belongs there, and nothing is sent. The
loop has no collectives over rows, so processes do not wait for one another before the results are asked for.

    jax.distributed.initialize()
    place = jaxdec.parallel.placement(data=-1)
    result = jaxdec.generate(decoder, params, prompts, rng=0, placement=place)
    rows, own = jaxdec.parallel.own_rows(result)  # of this process; nothing is sent
    whole = jaxdec.parallel.gather(result)  # of all, in every process
"""

import functools
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

Tree = TypeVar("Tree")


def across(leaf: Any, sharding: Sharding) -> jax.Array:
    """An array where a sharding says, over the devices of several processes.

    Args:
      leaf: an array `[...]` that every process holds whole, the same in each, or that lies on the mesh already.
      sharding: where it goes.

    Raises:
      ValueError: in a process that has none of the devices.
    """
    if not sharding.addressable_devices:
        raise ValueError(
            f"process {jax.process_index()} of {jax.process_count()} has none of the {sharding.num_devices} devices "
            "of the mesh: each that takes part needs one"
        )
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        there = leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
        return leaf if there else _moved(sharding)(leaf)
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        # What is split are the axes of the keys; their data have one more.
        data = across(jax.random.key_data(leaf), sharding)
        return _keyed(sharding, str(jax.random.key_impl(leaf)))(data)
    # Not `device_put`, which compares the array with that of every other process first.
    host = np.asarray(leaf)
    host = host.astype(jax.dtypes.canonicalize_dtype(host.dtype))
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


@functools.cache
def _moved(sharding):
    return jax.jit(lambda array: array, out_shardings=sharding)


@functools.cache
def _keyed(sharding, impl):
    return jax.jit(
        lambda data: jax.random.wrap_key_data(data, impl=impl),
        out_shardings=sharding,
    )


def gather(tree: Tree) -> Tree:
    """A result whole, in every process: a collective, which all processes have to call.

    Args:
      tree: a `Result`, or any tree of arrays.

    Returns:
      The same tree of numpy arrays.
    """

    def fetch(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
        return np.asarray(leaf)

    return jax.tree.map(fetch, tree)


def own_rows(tree: Tree) -> tuple[np.ndarray, Tree]:
    """The rows of a result that lie on devices of this process; nothing is sent.

    Args:
      tree: a `Result`, or any tree of arrays `[B, ...]`, rows split alike.

    Returns:
      `(rows, own)`: which rows these are, int `[b]` in ascending order, and the tree of numpy arrays `[b, ...]`. Where
      several processes hold a row, each of them has it: if heads are split over hosts, or if the rows of a `generate`
      do not divide over the devices.

    Raises:
      ValueError: for a tree without arrays, or whose arrays have other rows.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        raise ValueError("a result has at least one array, got none")
    pieces = [_pieces(leaf) for leaf in leaves]
    rows = np.asarray(sorted(pieces[0]))
    for piece in pieces:
        if piece.keys() != pieces[0].keys():
            raise ValueError(
                f"arrays of a result have the same rows, got {sorted(piece)} beside {rows.tolist()}"
            )
    own = [np.stack([piece[row] for row in rows]) for piece in pieces]
    return rows, jax.tree.unflatten(jax.tree.structure(tree), own)


def _pieces(leaf: jax.Array) -> dict[int, np.ndarray]:
    """Rows by their number."""
    found: dict[int, np.ndarray] = {}
    for shard in leaf.addressable_shards:
        first = shard.index[0].start or 0
        found |= {first + i: row for i, row in enumerate(np.asarray(shard.data))}
    return found
