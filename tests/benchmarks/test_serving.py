"""The soak and the ways of serving requests: what they count, and that they would see a fault."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from benchmarks import parts, serving
from benchmarks.poison import poisoned
from benchmarks.soaking import Soak, kept, mismatches
from benchmarks.traffic import SHARES, STRINGS, Letters, Traffic
from jaxdec.decoding import Status
from jaxdec.generation.requests import Call, Engine
from jaxdec.model import Inputs
from jaxdec.testing.oracles import hash_oracle

KNOBS = {"temperature": 1.0}
POISON = 10
TRAFFIC = Traffic(0, Letters(), POISON, 6, 6, KNOBS)
SIZES = {"max_prompt": 6, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def plain():
    model, params = hash_oracle(Letters().vocab_size)
    return jaxdec.autoregressive(poisoned(model, POISON)), {"target": params}


def engine(plain, **settings):
    return Engine(*plain, slots=2, places=8, chunk=4, **SIZES, **KNOBS, **settings)


def test_requests_are_made_of_their_numbers_alone():
    fates = [TRAFFIC.fate(number) for number in range(400)]
    assert {*fates} == {"", *SHARES}
    for number in (3, fates.index("poison"), fates.index("deadline"), fates.index("timeout")):
        first, again = TRAFFIC.call(number), TRAFFIC.call(number)
        np.testing.assert_array_equal(first.prompt, again.prompt)
        same = [dataclasses.replace(call, prompt=()) for call in (first, again)]
        assert same[0] == same[1]
    assert POISON in TRAFFIC.call(fates.index("poison")).prompt
    other = dataclasses.replace(TRAFFIC, seed=1)
    assert fates != [other.fate(number) for number in range(400)]


def test_a_soak_counts_everything_and_sees_what_differs(plain, quick_compilation, tmp_path):
    served = engine(plain, stop_strings=STRINGS, tokenizer=Letters())
    for what, bad in TRAFFIC.bad(TRAFFIC.call(3)).items():
        with pytest.raises(ValueError):
            served.submit(bad)
            pytest.fail(what)
    path = tmp_path / "completed"
    with path.open("wb") as file:
        soak = Soak(served, TRAFFIC, file)
        soak.run(0, 40)
    row = soak.row()
    assert row["requests"] == 40 and row["refused"] > 0
    assert [row[n] for n in ("lost", "duplicates", "wrongly_refused")] == [0, 0, 0]
    assert row["samples"] == sum(row["outcomes"].values()) >= 30
    everything = list(kept(path))
    plainly = [held for held in everything if not TRAFFIC.call(held[0]).stop_strings]
    few = sorted(plainly, key=lambda held: held[2] not in (Status.NONFINITE, Status.DEADLINE))[:8]

    def found(held):
        path.write_bytes(b"".join(map(pickle.dumps, held)))
        return mismatches(*plain, TRAFFIC, path, bits=True)

    assert found(few) == (len(few), [])
    at = next(i for i, held in enumerate(few) if held[2] is Status.LENGTH and len(held[3]) > 1)
    number, sample, status, tokens, *rest = few[at]
    for changed in (
        (number, sample, status, tokens ^ 1, *rest),
        (number, sample, Status.EOS, tokens, *rest),
        (number, sample, status, tokens[:-1], *(x[:-1] for x in rest)),
        (number, sample, status, tokens, rest[0] + 1e-6, rest[1]),
    ):
        assert len(found([changed])[1]) == 1
    cut = (number, sample, Status.CANCELLED, tokens[:-1], *(x[:-1] for x in rest))
    assert found([cut]) == (1, [])
    soak.tally.times.update({(0, 0): 1, (-1, 77): 1})
    assert soak.row()["duplicates"] == 2
    soak.tally.given += 3
    assert soak.row()["lost"] == 3


def test_a_poison_strikes_those_who_see_it_and_stays_in_the_cache(quick_compilation):
    model, params = hash_oracle(Letters().vocab_size)
    spoilt = poisoned(model, POISON)
    tokens = jnp.array([[1, POISON, 2], [1, 3, 2]])

    @jax.jit
    def laws(params, tokens):
        first = Inputs.causal(tokens)
        output = spoilt(params, first, None)
        lanes, count = jnp.tile(jnp.arange(3), (2, 1)), jnp.array([3, 3])
        cache = spoilt.init_cache(2, 8).commit(output.entries, lanes, count, first.key_spans)
        after = Inputs.causal(jnp.array([[4], [4]]), count)
        return output.logits, spoilt(params, after, cache).logits, model(params, first, None).logits

    found, later, expected = laws(params, tokens)
    struck = np.isnan(found).any(-1)
    np.testing.assert_array_equal(struck, [[False, True, True], [False] * 3])
    np.testing.assert_array_equal(np.isnan(later).any(-1), [[True], [False]])
    np.testing.assert_array_equal(found[~struck], expected[~struck])


def test_parts_are_kept_where_there_is_a_place_for_them(tmp_path, monkeypatch):
    made = []
    make = lambda: made.append(1) or {"made": len(made)}
    commit = lambda name: monkeypatch.setattr(parts.machine, "commit", lambda: name)
    commit("one")
    monkeypatch.delenv(parts.FOLDER, raising=False)
    assert [parts.part("x", make)["made"] for _ in range(2)] == [1, 2]
    monkeypatch.setenv(parts.FOLDER, str(tmp_path / "new"))
    assert [parts.part("x", make)["made"] for _ in range(2)] == [3, 3]
    assert parts.part("y", make)["made"] == 4
    for number, name in enumerate(("another", "one-dirty", "one-dirty", None), 5):
        commit(name)
        assert parts.part("x", make)["made"] == number
    commit("one")
    assert parts.part("x", make)["made"] == 3


def test_waits_are_counted_from_the_arrival():
    load = serving.Load.poisson([None] * 1000, 4.0, 0)
    assert load.arrivals[0] == 0 and (np.diff(load.arrivals) > 0).all()
    assert load.arrivals[-1] == pytest.approx(250, rel=0.1)
    served = serving.Served.of(serving.Load([None] * 2, np.array([0.0, 1.0])))
    served.first[0] = 0.5
    served.done(0, np.arange(6), 3.0)
    served.done(1, np.arange(1), 4.0)
    found = {name: each.tolist() for name, each in served.waits().items()}
    assert found == {"first": [0.5, 3.0], "token": [0.5, 0.0], "whole": [3.0, 3.0]}
    assert served.rate() == 7 / 4


@pytest.mark.slow
def test_all_ways_of_serving_give_the_same_tokens(quick_compilation):
    model, params = hash_oracle(Letters().vocab_size)
    plain = jaxdec.autoregressive(model), {"target": params}
    draw = np.random.default_rng(0)
    calls = [
        Call(
            draw.integers(0, 9, draw.integers(1, 7)),
            rng=place,
            max_new_tokens=int(draw.integers(1, 7)),
            eos=(),
        )
        for place in range(9)
    ]
    served = engine(plain)
    batches = serving.Batches(*plain, 2, 6, KNOBS)
    batches.warm(6)
    expected = batches.serve(serving.Load.backlog(calls))
    assert expected.total == sum(call.max_new_tokens for call in calls)
    for server in (
        serving.Slotted(served, 5, streams=True),
        serving.HostLoop(served.template, 2, 4),
        batches,
    ):
        for load in (serving.Load.backlog(calls), serving.Load.poisson(calls, 200.0, 1)):
            found = server.serve(load)
            jax.tree.map(np.testing.assert_array_equal, found.tokens, expected.tokens)
            assert (found.first > load.arrivals).all() and (found.last >= found.first).all()
        if server is not batches:
            assert 0.5 < server.serve(serving.Load.backlog(calls)).occupancy <= 1
