"""The one loop that runs every decoder, and its twin that yields from Python."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import placed
from jaxdec.decoding.checks import integers
from jaxdec.decoding.contract import Decoder, State
from jaxdec.decoding.part import check_parts, part_names
from jaxdec.decoding.record import Info, Record
from jaxdec.decoding.request import Request, Settings
from jaxdec.decoding.rows import Rows
from jaxdec.decoding.stops import Status
from jaxdec.model import Params
from jaxdec.parallel import Placement
from jaxdec.sampling import as_key, is_traced, row_keys


def stepped(
    decoder: Decoder[State], params: Params, state: State, keys: jax.Array
) -> tuple[State, Info]:
    """One step, inside a program; a row that takes more steps than its buffer can ask for ends with `STALLED`."""
    before = state.rows
    state, info = decoder.step(params, state, keys)
    rounds, running = before.rounds, before.running
    if info.source is not None:
        # What was taken from the shelf has ended, and has its own count.
        taken = lambda x: x.at[info.source].get(mode="fill", fill_value=0)
        rounds, running = taken(rounds), taken(running)
    rows = state.rows
    # Counted here too, so that a step which leaves a row as it was cannot go on for ever.
    rounds = jnp.maximum(rows.rounds, rounds + running)
    most = rows.tokens.shape[1] * getattr(decoder, "steps_per_token", 1)
    most = min(most, np.iinfo(np.int32).max)
    status = jnp.where(rows.running & (rounds >= most), int(Status.STALLED), rows.status)
    counted = dataclasses.replace(rows, rounds=rounds, status=status)
    return with_rows(state, counted), dataclasses.replace(info, status=status)


def with_rows(state: State, rows: Rows) -> State:
    """A state with other rows."""
    return _swapped(state, "rows", rows)


def with_settings(state: State, settings: Settings) -> State:
    """A state with other settings."""
    return _swapped(state, "settings", settings)


def _swapped(state: State, name: str, new: Any) -> State:
    """A state with something else where one of its nodes is, wherever that stands in it."""
    before = getattr(state, name)
    swapped = jax.tree.map(
        lambda node: new if node is before else node, state, is_leaf=lambda node: node is before
    )
    if getattr(swapped, name) is not new:
        raise ValueError(
            f"the {name} of a {type(state).__name__} must be a node of the state itself"
        )
    return swapped


def _loop(decoder, params, state, rng, max_steps, record):
    rows = state.rows
    keys = row_keys(rng, rows.status.shape[0], rows.hypotheses)

    def running(carry):
        step, state, _ = carry
        return state.rows.running.any() & (step < max_steps)

    def body(carry):
        step, state, record = carry
        state, info = stepped(decoder, params, state, keys)
        return step + 1, state, record.add(info)

    _, state, record = jax.lax.while_loop(running, body, (jnp.int32(0), state, record))
    return state, record


def _placed_loop(decoder, placement, *arrays):
    return placed.looped(_loop, decoder, placement, *arrays)


def _placed_stepped(decoder, placement, params, state, keys):
    return placed.stepped(stepped, decoder, placement, params, state, keys)


_run = jax.jit(_loop, static_argnums=0, donate_argnums=(2, 5))
_run_placed = jax.jit(_placed_loop, static_argnums=(0, 1), donate_argnums=(3, 6))
# Of a traced program, whose values are not given away.
_run_inside = jax.jit(_loop, static_argnums=0)
_run_placed_inside = jax.jit(_placed_loop, static_argnums=(0, 1))


# Arguments are kept in these two although nothing may be read of them but shapes: a state and a record are then
# committed to a device iff the parameters are, before the first step as after it, and a run that is continued is the
# program of its beginning.
_init = jax.jit(
    lambda decoder, params, request: decoder.init(params, request),
    static_argnums=0,
    keep_unused=True,
)


_start = jax.jit(Record.start, keep_unused=True)


_step = jax.jit(stepped, static_argnums=0, donate_argnums=2)
_step_placed = jax.jit(_placed_stepped, static_argnums=(0, 1), donate_argnums=3)


def run(
    decoder: Decoder[State],
    params: Params,
    state: State,
    rng: jax.Array | int,
    max_steps: int | jax.Array | None = None,
    record: Record | None = None,
    *,
    placement: Placement | None = None,
) -> tuple[State, Record]:
    """Steps until every row has ended, in one `lax.while_loop`.

    Args:
      decoder: the algorithm; static.
      params: parameters by part name, `{"target": ...}`.
      state: where to start; donated, so it must not be used again.
      rng: one key or integer seed, or one key a prompt, or one a row `[B]`. A state continued with the same rng
        continues the same draws.
      max_steps: stop after as many steps (traced); None for no bound beside the rows' own.
      record: continues the record of an earlier run; donated.
      placement: the devices, and what lies on which; the rows divide over them. Each group of devices steps until its
        own rows have ended, or `max_steps` of its own. The draws are the same on any number of devices.

    Returns:
      `(state, record)`. Rows that still run after `max_steps` keep the status `RUNNING`; run again to continue.

    Raises:
      ValueError: for parameters that are not by part name, an impossible `max_steps`, or rows that do not divide.
    """
    check_parts(params, part_names(decoder))
    if placement is not None:
        placed.check_state(placement, state)
    if record is None:
        record = _start(state.rows, getattr(state, "shelf", None))
    most = np.iinfo(np.int32).max
    steps = np.int32(most) if max_steps is None else integers("max_steps", max_steps, [()], low=0)
    rng = as_key(rng)
    inside = is_traced((state.rows, rng))
    if placement is None:
        loop = _run_inside if inside else _run
        return loop(decoder, params, state, rng, steps, record)
    arrays = placed.arguments(placement, params, state, rng)
    loop = _run_placed_inside if inside else _run_placed
    return loop(decoder, placement, *arrays, steps, placed.place(placement, record))


def stream(
    decoder: Decoder[State],
    params: Params,
    state: State,
    rng: jax.Array | int,
    *,
    placement: Placement | None = None,
) -> Iterator[tuple[State, Info]]:
    """Yields `(state, info)` after each step until every row has ended; the same step as `run`.

    Each yielded state is given away to the next step: read it before asking for the next item, do not keep it.
    """
    check_parts(params, part_names(decoder))
    if placement is not None:
        placed.check_state(placement, state)
    keys = row_keys(rng, state.rows.status.shape[0], state.rows.hypotheses)
    if placement is not None:
        params, state, keys = placed.arguments(placement, params, state, keys)
    while bool(state.rows.running.any()):
        if placement is None:
            state, info = _step(decoder, params, state, keys)
        else:
            state, info = _step_placed(decoder, placement, params, state, keys)
        yield state, info


def init(
    decoder: Decoder[State],
    params: Params,
    request: Request,
    *,
    placement: Placement | None = None,
) -> State:
    """`decoder.init`, jitted.

    Args:
      decoder: the algorithm; static.
      params: parameters by part name, `{"target": ...}`.
      request: from `jaxdec.prepare`.
      placement: the devices, and what lies on which; the rows divide over them.

    Raises:
      ValueError: for parameters that are not by part name, or what does not divide over the devices or fit on them.
    """
    check_parts(params, part_names(decoder))
    if placement is not None:
        return placed.init(decoder, placement, params, request)
    return _init(decoder, params, request)


def decode(
    decoder: Decoder[State],
    params: Params,
    request: Request,
    rng: Any,
    placement: Placement | None = None,
) -> tuple[State, Record]:
    """A request from its first step to its last: `run` of `init`, on a mesh with rows added until they divide.

    Args:
      decoder: the algorithm; static.
      params: parameters by part name, `{"target": ...}`.
      request: from `jaxdec.prepare`.
      rng: one key or integer seed, or keys or seeds, one a prompt, or one a row.
      placement: the devices, and what lies on which; None for one device.

    Returns:
      `(state, record)`, of at least the rows of the request, its own first.

    Raises:
      ValueError: as `init`.
    """
    if placement is not None:
        placed.check(placement)
    keys = row_keys(rng, request.prompt.shape[0], request.hypotheses)
    if placement is not None:
        request, keys = placed.fill(placement, request, keys)
    state = init(decoder, params, request, placement=placement)
    return run(decoder, params, state, keys, placement=placement)
