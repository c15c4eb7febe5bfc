"""The loop on a mesh of devices: what `init`, `run` and `stream` do where a placement is given.

Legend: B rows.
"""

import dataclasses
import functools
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdec.decoding.contract import Decoder
from jaxdec.decoding.moving import SHARED, by_row
from jaxdec.decoding.request import Request
from jaxdec.model import Params
from jaxdec.parallel import DATA, Placement, check_memory, over_caches, put
from jaxdec.sampling import row_keys

Tree = TypeVar("Tree")


def specs(placement: Placement, tree: Any) -> Any:
    """Partition specs of a request, a state or a record: by rows, what all share whole, caches as their rules say."""
    shared = lambda node: isinstance(node, SHARED)
    whole = lambda node: jax.tree.map(lambda _: P(), node) if shared(node) else P(DATA)
    return over_caches(placement.cache_specs, whole, tree, shared)


def place(placement: Placement, tree: Tree) -> Tree:
    """Puts a request, a state or a record where its specs say; what lies there already is not copied."""
    shardings = jax.tree.map(
        lambda spec: NamedSharding(placement.mesh, spec),
        specs(placement, tree),
        is_leaf=lambda node: isinstance(node, P),
    )
    return put(tree, shardings)


def init(decoder: Decoder, placement: Placement, params: Params, request: Request) -> Any:
    """`decoder.init` on the mesh."""
    check(placement)
    _check_rows(placement, request, request.lengths.shape[0], request.hypotheses)
    request = dataclasses.replace(request, cache=placement.split_caches(request.cache))
    return _init(decoder, placement, placement.place(params), place(placement, request))


def check(placement: Any) -> None:
    """Raises `ValueError` for what is no placement."""
    if not isinstance(placement, Placement):
        raise ValueError(
            f"placement must be a jaxdec.parallel.Placement, got {type(placement).__name__}; "
            "jaxdec.parallel.placement(data=2, model=4) makes one"
        )


def arguments(placement: Placement, params: Params, state: Any, rng: jax.Array) -> tuple[Any, ...]:
    """Parameters, a state and its keys `[B]`, each where it belongs."""
    rows = state.rows
    keys = row_keys(rng, rows.length.shape[0], rows.hypotheses)
    return placement.place(params), place(placement, state), place(placement, keys)


@functools.partial(jax.jit, static_argnums=(0, 1), keep_unused=True)
def _init(decoder, placement, params, request):
    def body(params, request):
        return placement.lay_out(decoder.init(params, request))

    placement.check_heads(decoder.model)
    given = P(), specs(placement, request)
    # Once for the structure of the state, by which its specs go: collectives stand inside, so only under the map.
    state = jax.eval_shape(placement.map(body, given, P(DATA)), params, request)
    found = specs(placement, state)
    check_memory(placement, params, state)
    return placement.map(body, given, found)(params, request)


def looped(loop, decoder, placement, params, state, keys, max_steps, record):
    """A loop over steps on each device's own rows; see `jaxdec.decoding.loop`."""

    def body(params, state, keys, max_steps, record):
        state, record = loop(decoder, params, placement.lay_out(state), keys, max_steps, record)
        return placement.lay_out(state), record

    of_state = specs(placement, state)
    given = P(), of_state, P(DATA), P(), P(DATA)
    mapped = placement.map(body, given, (of_state, P(DATA)))
    return mapped(params, state, keys, max_steps, record)


def stepped(step, decoder, placement, params, state, keys):
    """A step on each device's own rows; see `jaxdec.decoding.loop`."""

    def body(params, state, keys):
        state, info = step(decoder, params, placement.lay_out(state), keys)
        return placement.lay_out(state), info

    of_state = specs(placement, state)
    mapped = placement.map(body, (P(), of_state, P(DATA)), (of_state, P(DATA)))
    return mapped(params, state, keys)


def fill(placement: Placement, request: Request, keys: jax.Array) -> tuple[Request, jax.Array]:
    """A request whose rows divide over the devices: prompts that end at once stand behind its own.

    Args:
      placement: where it will run.
      request: of any number of prompts.
      keys: one a row `[B]`, made before rows are added, so that each is folded with the row's place in the batch.
    """
    check(placement)
    batch = request.lengths.shape[0]
    extra = -batch % (placement.size(DATA) * request.hypotheses)
    if not extra:
        return request, keys
    index = np.minimum(np.arange(batch + extra), batch - 1)
    request = by_row(request, lambda x: x[index], lambda stops: stops)
    budget = jnp.where(np.arange(batch + extra) < batch, request.settings.max_new_tokens, 0)
    settings = dataclasses.replace(request.settings, max_new_tokens=budget)
    return dataclasses.replace(request, settings=settings), keys[index]


def check_state(placement: Placement, state: Any) -> None:
    """Raises `ValueError` for no placement, or unless the rows of a state divide over its devices."""
    check(placement)
    _check_rows(placement, state, state.rows.length.shape[0], state.rows.hypotheses)


def _check_rows(placement: Placement, tree: Any, batch: int, hypotheses: int) -> None:
    """Raises `ValueError` unless the rows divide over the devices, those of a prompt on one: they may move."""
    devices = placement.size(DATA)
    if batch % (devices * hypotheses):
        raise ValueError(
            f"{batch} rows do not divide over {devices} devices of the axis {DATA!r}"
            + (f", {hypotheses} of a prompt on one" if hypotheses > 1 else "")
            + "; generate fills the batch"
        )
    rows = by_row(tree, lambda x: x, lambda stops: None)
    for path, leaf in jax.tree_util.tree_leaves_with_path(rows):
        if leaf.shape[:1] != (batch,):
            raise ValueError(
                f"{jax.tree_util.keystr(path)} has shape {list(leaf.shape)}; every array but the "
                f"stop tables needs the {batch} rows as its leading axis"
            )
