"""The one loop that runs every decoder, and its twin that yields from Python."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding.contract import Decoder, State
from jaxdec.decoding.record import Info, Record
from jaxdec.decoding.request import Request
from jaxdec.model import Params
from jaxdec.sampling import row_keys


def _loop(decoder, params, state, rng, max_steps, record):
    keys = row_keys(rng, state.rows.status.shape[0])

    def running(carry):
        step, state, _ = carry
        return state.rows.running.any() & (step < max_steps)

    def body(carry):
        step, state, record = carry
        state, info = decoder.step(params, state, keys)
        return step + 1, state, record.add(info)

    _, state, record = jax.lax.while_loop(running, body, (jnp.int32(0), state, record))
    return state, record


_run = jax.jit(_loop, static_argnums=0, donate_argnums=(2, 5))


_init = jax.jit(lambda decoder, params, request: decoder.init(params, request), static_argnums=0)


_step = jax.jit(
    lambda decoder, params, state, keys: decoder.step(params, state, keys),
    static_argnums=0,
    donate_argnums=2,
)


def run(
    decoder: Decoder[State],
    params: Params,
    state: State,
    rng: jax.Array,
    max_steps: int | jax.Array | None = None,
    record: Record | None = None,
) -> tuple[State, Record]:
    """Steps until every row has ended, in one `lax.while_loop`.

    Args:
      decoder: the algorithm; static.
      params: its parameters.
      state: where to start; donated, so it must not be used again.
      rng: one key, or one a row `[B]`. A state continued with the same rng continues the same draws.
      max_steps: stop after as many steps (traced); None for no bound beside the rows' own.
      record: continues the record of an earlier run; donated.

    Returns:
      `(state, record)`. Rows that still run after `max_steps` keep the status `RUNNING`; run again to continue.
    """
    if record is None:
        record = Record.start(state.rows)
    if max_steps is None:
        max_steps = np.iinfo(np.int32).max
    return _run(decoder, params, state, rng, jnp.int32(max_steps), record)


def stream(
    decoder: Decoder[State], params: Params, state: State, rng: jax.Array
) -> Iterator[tuple[State, Info]]:
    """Yields `(state, info)` after each step until every row has ended; the same step as `run`.

    Each yielded state is given away to the next step: read it before asking for the next item, do not keep it.
    """
    keys = row_keys(rng, state.rows.status.shape[0])
    while bool(state.rows.running.any()):
        state, info = _step(decoder, params, state, keys)
        yield state, info


def init(decoder: Decoder[State], params: Params, request: Request) -> State:
    """`decoder.init`, jitted."""
    return _init(decoder, params, request)
