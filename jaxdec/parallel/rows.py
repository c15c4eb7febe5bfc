"""Rows over devices: the whole decode loop inside `jax.shard_map`.

Rows are independent, so each device runs a loop of its own over its own rows, with a copy of the parameters, until
those are done: no collective stands inside the loop and no device waits for another. Automatic sharding of the same
program puts collectives into every step, if only to ask whether any row anywhere still runs.

    mesh = data_mesh()
    result = generate_sharded(decoder, params, prompts, mesh=mesh, rng=jax.random.key(0))

Keys belong to rows, so that the tokens are those of the unsharded call on any number of devices. All hypotheses of a
prompt are on one device: a step that moves rows (`Info.source`) numbers those of its own device.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdec import decoding
from jaxdec.decoding import Decoder, Record, Request, State, by_row
from jaxdec.generation import Infilled, Result, infilled, prepare, prepare_infill, result
from jaxdec.model import Params
from jaxdec.sampling import row_keys

AXIS = "data"
"""The mesh axis that rows are split over."""


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis, `"data"`, over some devices; all if not given."""
    return Mesh(np.asarray(jax.devices() if devices is None else devices), (AXIS,))


def replicate(params: Params, mesh: Mesh) -> Params:
    """Puts a copy of the parameters on every device; do it once for several calls."""
    return jax.device_put(params, NamedSharding(mesh, P()))


def row_specs(tree: Any) -> Any:
    """Partition specs of a request, a state or a record: everything is per row, except `Stops`.

    Returns:
      A prefix of `tree` with `P("data")` for each array and `P()` for each `Stops`.
    """
    return by_row(tree, lambda _: P(AXIS), lambda _: P())


def init_sharded(decoder: Decoder[State], params: Params, request: Request, mesh: Mesh) -> State:
    """`decoder.init` with the rows of the request over the devices of `mesh`.

    Args:
      decoder: the algorithm; static.
      params: parameters by part name, `{"target": ...}`; replicated.
      request: from `jaxdec.prepare`.
      mesh: from `data_mesh`.

    Returns:
      A state whose rows lie on the devices that `run_sharded` will step them on.

    Raises:
      ValueError: for parameters that are not by part name, or if the rows do not divide over the devices.
    """
    decoding.check_parts(params, decoding.part_names(decoder))
    _check_rows(request, request.lengths.shape[0], request.hypotheses, mesh)
    return _init(decoder, mesh, replicate(params, mesh), _place(request, mesh))


def run_sharded(
    decoder: Decoder[State],
    params: Params,
    state: State,
    rng: jax.Array | int,
    mesh: Mesh,
    max_steps: int | jax.Array | None = None,
    record: Record | None = None,
) -> tuple[State, Record]:
    """`jaxdec.run` with the rows over the devices of `mesh`: one loop a device, until its own rows have ended.

    Args:
      decoder: the algorithm; static.
      params: parameters by part name, `{"target": ...}`; replicated.
      state: from `init_sharded`, or any state; donated, so it must not be used again.
      rng: one key or integer seed, or one key a row `[B]`; the same draws as in the unsharded run.
      mesh: from `data_mesh`.
      max_steps: stop each device after as many steps; None for no bound beside the rows' own.
      record: continues the record of an earlier run; donated.

    Returns:
      `(state, record)`, sharded like the state that came in.

    Raises:
      ValueError: for parameters that are not by part name, or if the rows do not divide over the devices, or a leaf of
        the state has no row axis.
    """
    decoding.check_parts(params, decoding.part_names(decoder))
    batch = state.rows.length.shape[0]
    hypotheses = state.rows.hypotheses
    _check_rows(state, batch, hypotheses, mesh)
    keys = row_keys(rng, batch, hypotheses)
    return _run(
        decoder,
        mesh,
        replicate(params, mesh),
        _place(state, mesh),
        _place(keys, mesh),
        None if max_steps is None else decoding.integers("max_steps", max_steps, [()], low=0),
        None if record is None else _place(record, mesh),
    )


def generate_sharded(
    decoder: Decoder,
    params: Params,
    prompt: jax.Array | np.ndarray,
    *,
    mesh: Mesh,
    rng: jax.Array | int,
    **kwargs: Any,
) -> Result:
    """`jaxdec.generate` with the rows over the devices of `mesh`; the result is the same bit for bit.

    A batch that does not divide over the devices is filled with rows that end at once and are cut off afterwards.

    Args:
      decoder: such as `jaxdec.autoregressive(model)`.
      params: as for `generate`; see `replicate`.
      prompt: int `[B, P]`, right-padded.
      mesh: from `data_mesh`.
      rng: one key or integer seed (row b then uses `fold_in(rng, b)`), or one key a row `[B]`.
      **kwargs: the other arguments of `generate`.

    Raises:
      ValueError: as `generate`.
    """
    request = prepare(decoder, params, prompt, **kwargs)
    state, record, batch = _decode(decoder, params, request, rng, mesh)
    return _first(result(state, record), batch)


def infill_sharded(
    decoder: Decoder,
    params: Params,
    tokens: jax.Array | np.ndarray,
    visible: jax.Array | np.ndarray,
    *,
    mesh: Mesh,
    rng: jax.Array | int,
    **kwargs: Any,
) -> Infilled:
    """`jaxdec.infill` with the rows over the devices of `mesh`; the result is the same bit for bit.

    Args:
      decoder: over a model that answers queries.
      params: as for `infill`; see `replicate`.
      tokens: int `[B, L]`.
      visible: bool `[B, L]`.
      mesh: from `data_mesh`.
      rng: one key or integer seed (row b then uses `fold_in(rng, b)`), or one key a row `[B]`.
      **kwargs: the other arguments of `infill`.

    Raises:
      ValueError: as `infill`.
    """
    request = prepare_infill(decoder, params, tokens, visible, **kwargs)
    state, record, batch = _decode(decoder, params, request, rng, mesh)
    return _first(infilled(state.rows, record, np.shape(tokens)[1]), batch)


def _decode(decoder, params, request, rng, mesh):
    """Decodes a request, filled up to a batch that divides; returns the request's own number of rows too."""
    batch = request.lengths.shape[0]
    # Before rows are added, so that each key is folded with the row's place in the caller's batch.
    keys = row_keys(rng, batch, request.hypotheses)
    extra = -batch % (mesh.shape[AXIS] * request.hypotheses)  # whole prompts
    request, keys = _fill((request, keys), batch, extra)
    budget = np.where(np.arange(len(keys)) < batch, request.settings.max_new_tokens, 0)
    settings = dataclasses.replace(request.settings, max_new_tokens=budget)
    request = dataclasses.replace(request, settings=settings)
    state = init_sharded(decoder, params, request, mesh)
    return *run_sharded(decoder, params, state, keys, mesh), batch


def _first(tree: Any, batch: int) -> Any:
    """The first rows of a result."""
    return jax.tree.map(lambda x: x[:batch], tree)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init(decoder, mesh, params, request):
    state = jax.eval_shape(decoder.init, params, request)
    body = functools.partial(decoding.init, decoder)
    specs = (P(), row_specs(request))
    return _shard_map(body, mesh, specs, row_specs(state))(params, request)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 6))
def _run(decoder, mesh, params, state, keys, max_steps, record):
    body = functools.partial(decoding.run, decoder)
    specs = (P(), row_specs(state), P(AXIS), P(), P(AXIS))
    out = (row_specs(state), P(AXIS))
    return _shard_map(body, mesh, specs, out)(params, state, keys, max_steps, record)


def _shard_map(body, mesh, in_specs, out_specs):
    # Unchecked: decoders start their loops from plain zeros, which the check takes for replicated values.
    return jax.shard_map(body, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _place(tree: Any, mesh: Mesh) -> Any:
    """Puts a tree where its specs say; arrays that lie there already are not copied."""
    return jax.device_put(
        tree,
        by_row(tree, lambda _: NamedSharding(mesh, P(AXIS)), lambda _: NamedSharding(mesh, P())),
    )


def _fill(tree: Any, batch: int, extra: int) -> Any:
    """Repeats the last row `extra` times."""
    index = np.minimum(np.arange(batch + extra), batch - 1)
    return by_row(tree, lambda x: x[index], lambda stops: stops) if extra else tree


def _check_rows(tree: Any, batch: int, hypotheses: int, mesh: Mesh) -> None:
    """Raises `ValueError` unless the rows divide over the devices, those of a prompt on one: they may move."""
    devices = mesh.shape[AXIS]
    if batch % (devices * hypotheses):
        raise ValueError(
            f"{batch} rows do not divide over {devices} devices"
            + (f", {hypotheses} of a prompt on one" if hypotheses > 1 else "")
            + "; generate_sharded fills the batch"
        )
    rows = by_row(tree, lambda x: x, lambda stops: None)
    for path, leaf in jax.tree_util.tree_leaves_with_path(rows):
        if leaf.shape[:1] != (batch,):
            raise ValueError(
                f"{jax.tree_util.keystr(path)} has shape {list(leaf.shape)}; every array but the "
                f"stop tables needs the {batch} rows as its leading axis"
            )
