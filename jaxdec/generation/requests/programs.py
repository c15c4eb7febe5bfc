"""The compiled programs of the slot engine, on one device or on a mesh of several.

On a mesh, the devices of `"data"` are lanes: each has slots, a queue and a ring of its own, and runs a loop of its own.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxdec.decoding import Reading, Request, placed
from jaxdec.generation.requests.slot_engine import SlotEngine
from jaxdec.generation.requests.state import EngineState, Finished
from jaxdec.generation.requests.waiting import Waiting
from jaxdec.model import Params
from jaxdec.parallel import DATA, Placement, check_memory


@functools.partial(jax.jit, static_argnums=(0, 1, 5, 6))
def start(
    engine: SlotEngine,
    placement: Placement | None,
    params: Params,
    request: Request,
    key: jax.Array,
    slots: int,
    places: int,
) -> EngineState:
    """See `SlotEngine.start`; `slots` and `places` are those of a lane."""
    if placement is None:
        return engine.start(params, request, key, slots, places)
    place = placement

    def body(params, request, key):
        return place.lay_out(engine.start(params, request, key, slots, places))

    placement.check_heads(engine.decoder.model)
    given = P(), P(), P()
    state = jax.eval_shape(placement.map(body, given, P(DATA)), params, request, key)
    found = placed.specs(placement, state)
    check_memory(placement, params, state)
    return placement.map(body, given, found)(params, request, key)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def advance(
    engine: SlotEngine,
    placement: Placement | None,
    params: Params,
    state: EngineState,
    max_steps: jax.Array,
    reads: jax.Array,
) -> tuple[EngineState, Finished]:
    """See `SlotEngine.advance`."""
    if placement is None:
        return engine.advance(params, state, max_steps, reads)
    place = placement

    def body(params, state, max_steps, reads):
        state, finished = engine.advance(params, place.lay_out(state), max_steps, reads)
        return place.lay_out(state), finished

    of_state = placed.specs(placement, state)
    mapped = placement.map(body, (P(), of_state, P(), P()), (of_state, P(DATA)))
    return mapped(params, state, max_steps, reads)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def push(
    engine: SlotEngine, placement: Placement | None, state: EngineState, others: Waiting
) -> EngineState:
    """See `SlotEngine.push`; `others` has as many places for each lane."""
    return _mapped(placement, engine.push, state, placed_specs(placement, others), others)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def cancel(
    engine: SlotEngine,
    placement: Placement | None,
    state: EngineState,
    ids: jax.Array,
    status: jax.Array,
) -> EngineState:
    """See `SlotEngine.cancel`."""
    change = lambda state, given: engine.cancel(state, *given)
    return _mapped(placement, change, state, P(), (ids, status))


@functools.partial(jax.jit, static_argnums=(0, 1))
def read_prefix(
    engine: SlotEngine,
    placement: Placement | None,
    params: Params,
    state: EngineState,
    tokens: jax.Array,
    end: jax.Array,
) -> Reading:
    """See `SlotEngine.read_prefix`; every lane reads it."""
    if placement is None:
        return engine.read_prefix(params, state, tokens, end)
    of_state = placed.specs(placement, state)
    of_reading = placed.specs(placement, state.prefixes)
    body = lambda params, state, tokens, end: engine.read_prefix(params, state, tokens, end)
    mapped = placement.map(body, (P(), of_state, P(), P()), of_reading)
    return mapped(params, state, tokens, end)


@functools.partial(jax.jit, static_argnums=0)
def join(placement: Placement | None, readings: list[Reading]) -> Reading:
    """Several readings as one, row by row, in each lane."""
    together: Any = lambda *own: jax.tree.map(lambda *xs: jnp.concatenate(xs), *own)
    if placement is None:
        return together(*readings)
    specs = [placed.specs(placement, reading) for reading in readings]
    return placement.map(together, tuple(specs), specs[0])(*readings)


def placed_specs(placement: Placement | None, tree: Any) -> Any:
    """Partition specs of a tree, if it is placed."""
    return None if placement is None else placed.specs(placement, tree)


def _mapped(placement: Placement | None, change: Any, state: Any, spec: Any, given: Any) -> Any:
    """`change(state, given)` on each lane's own."""
    if placement is None:
        return change(state, given)
    place = placement
    body = lambda state, given: place.lay_out(change(place.lay_out(state), given))
    of_state = placed.specs(placement, state)
    return placement.map(body, (of_state, spec), of_state)(state, given)
