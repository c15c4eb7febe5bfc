"""The loop: a hard bound on steps, and as many programs as there are different computations."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import decoding
from jaxdec.decoding import Rows, Status
from jaxdec.measuring import timing
from jaxdec.testing import oracles

pytestmark = pytest.mark.usefixtures("quick_compilation")

MODEL, TABLE = oracles.hash_oracle(6, seed=2)
PARAMS = {"target": TABLE}
KEY = jax.random.key(0)
PROMPT = np.array([[1, 2, 3], [4, 5, 0]])


@dataclasses.dataclass(frozen=True)
class Lazy:
    """Plain decoding whose second row never commits a token, and says so or does not count its steps at all."""

    plain: Any
    counts: bool
    steps_per_token: int = 1

    def __getattr__(self, name):
        return getattr(self.plain, name)

    def step(self, params, state, rng):
        stuck = jnp.arange(2) == 1
        after, info = self.plain.step(params, state, rng)
        held = lambda new, old: jnp.where(stuck.reshape(-1, *(1,) * (new.ndim - 1)), old, new)
        rows = jax.tree.map(held, after.rows, state.rows)
        if self.counts:
            rows = dataclasses.replace(rows, rounds=after.rows.rounds)
        cache = jax.tree.map(held, after.cache, state.cache)
        info = dataclasses.replace(info, count=jnp.where(stuck, 0, info.count), status=rows.status)
        return dataclasses.replace(after, rows=rows, cache=cache), info


@pytest.mark.parametrize(("counts", "per_token"), [(True, 1), (False, 2)])
def test_rows_without_progress_end(counts, per_token):
    lazy = Lazy(jaxdec.autoregressive(MODEL), counts, per_token)
    request = jaxdec.prepare(lazy, PARAMS, PROMPT, max_new_tokens=5, eos=())
    # Bounded here as well, so that a loop without a bound of its own fails instead of hanging.
    enough = request.capacity * per_token
    state, _ = decoding.run(lazy, PARAMS, decoding.init(lazy, PARAMS, request), KEY, enough + 1)
    codes = [Status(int(code)) for code in state.rows.status]
    assert codes == [Status.LENGTH, Status.STALLED]
    assert state.rows.rounds.tolist() == [5, enough]
    statuses = []
    for _, info in decoding.stream(lazy, PARAMS, decoding.init(lazy, PARAMS, request), KEY):
        statuses.append(np.asarray(info.status).tolist())
        assert len(statuses) <= enough
    assert len(statuses) == enough and statuses[-1] == [Status.LENGTH, Status.STALLED]


def test_rows_stand_in_the_state():
    @dataclasses.dataclass(frozen=True)
    class Rebuilt:
        plain: Any

        def __getattr__(self, name):
            return getattr(self.plain, name)

        def step(self, params, state, rng):
            after, info = self.plain.step(params, state.inner, rng)
            return Hidden(after), info

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Hidden:
        inner: Any

        @property
        def rows(self):
            return dataclasses.replace(self.inner.rows)

    decoder = Rebuilt(jaxdec.autoregressive(MODEL))
    state = decoding.init(decoder, PARAMS, jaxdec.prepare(decoder, PARAMS, PROMPT))
    assert isinstance(state.rows, Rows)
    with pytest.raises(ValueError, match="rows of a Hidden must be a node of the state itself"):
        decoding.run(decoder, PARAMS, Hidden(state), KEY)


def compiled(call):
    """The names of the programs that a call compiles."""
    before = len(timing._COMPILED)
    jax.block_until_ready(call())
    return sorted(name for name, _ in timing._COMPILED[before:])


def test_a_call_is_a_handful_of_programs():
    """Nothing runs operation by operation on the host: at a new batch size that would compile each of them."""
    decoder = jaxdec.autoregressive(MODEL)
    other = jax.random.key(
        1
    )  # a caller's own: where programs were dropped since the import, it compiles
    options = dict(rng=KEY, max_new_tokens=4, temperature=0.5, stop=[[1, 2]])
    call = lambda prompt: jaxdec.generate(decoder, PARAMS, prompt, **options)
    jax.block_until_ready(call(np.ones((6, 3), int)))  # what a process compiles but once
    prompt = np.ones((5, 3), int)
    programs = compiled(lambda: call(prompt))
    assert len(programs) <= 5, programs
    again = lambda: jaxdec.generate(
        decoder,
        PARAMS,
        prompt + 1,
        rng=other,
        max_new_tokens=3,
        temperature=0.7,
        stop=[[3, 1]],
    )
    assert compiled(again) == []
    visible = np.arange(6) % 2 == np.zeros((5, 1), int)
    filled = compiled(lambda: jaxdec.infill(decoder, PARAMS, visible * 2, visible, rng=KEY))
    assert len(filled) <= 5, filled


@pytest.mark.parametrize("committed", [False, True])
def test_a_continued_run_is_the_same_program(committed):
    decoder = jaxdec.autoregressive(MODEL)
    params = jax.device_put(PARAMS, jax.devices()[0]) if committed else PARAMS
    prompt = np.ones((6 + committed, 3), int)
    request = jaxdec.prepare(decoder, params, prompt, max_new_tokens=9, eos=())
    state = decoding.init(decoder, params, request)
    traced = []

    @dataclasses.dataclass(frozen=True)
    class Watched:
        def __getattr__(self, name):
            return getattr(decoder, name)

        def step(self, params, state, rng):
            traced.append(state)
            return decoder.step(params, state, rng)

    state, record = decoding.run(Watched(), params, state, KEY, 2)
    more = lambda: decoding.run(Watched(), params, state, KEY, 3, record)
    assert (compiled(more), len(traced)) == ([], 1)
