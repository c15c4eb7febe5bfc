"""An engine that was saved goes on as the one that was not, whatever it was doing; nothing else loads."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec.decoding import Status
from jaxdec.generation.requests import Call, identity, written
from jaxdec.testing import battery
from tests.requests.killed import built
from tests.requests.served import engine, mixed

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def plain():
    model, params = battery.pair()
    return jaxdec.autoregressive(model), {"target": params["target"]}


def content(done):
    """All of a `Completed`, comparable."""
    return jax.tree.map(
        lambda x: x.tolist() if isinstance(x, np.ndarray) else x,
        written.completed_to_json(done),
    )


def step(served):
    """What comes back after one step, by id."""
    return {each.id: content(each) for each in served.poll(1)}


def rest(served):
    """What comes back from now on, by id."""
    found = {}
    for _ in range(500):
        if not served.pending:
            break
        found |= step(served)
    assert not served.pending
    return found


@pytest.mark.parametrize("name", ["autoregressive", "sequoia", "fast-dllm-v2"])
def test_it_goes_on_at_any_moment(name, tmp_path):
    """In the middle of prompts and of rows, with requests that were not sent, that wait, that were taken back."""
    decoder, params, gaps = built(name)
    served, other = (engine(decoder, params, gaps=gaps, reads=1) for _ in range(2))
    calls = mixed(5, gaps=gaps, seed=2)
    ids = [name for call in calls for name in served.submit(call)]
    more = {"samples": 2, "rng": jax.random.key(5), "timeout": 1e6, "tag": {"a": (1, b"b")}}
    ids += served.submit(dataclasses.replace(calls[0], deadline=40, **({} if gaps else more)))

    def play(engine, moment, known, saved=None):
        """From one moment on: what comes back by id, and what was back before each of the moments."""
        found, before = {}, []
        while engine.pending or moment < 4:
            assert moment < 500
            if moment == 3:
                engine.cancel([ids[-1], min(set(ids) - known - set(found))])  # waits, runs
            if moment == 2:
                engine.new_tokens()
            if saved and moment < 5:
                engine.save(saved / str(moment))
                before.append((set(found), engine.pending, dict(engine.counts)))
            found |= step(engine)
            moment += 1
        return found, before

    found, before = play(served, 0, set(), tmp_path)
    assert found.keys() == set(ids) and len(before) == 5
    assert {Status(each["status"]) for each in found.values()} > {Status.CANCELLED}
    for moment, (back, pending, counts) in enumerate(before):
        other.load(tmp_path / str(moment))
        assert (other.pending, other.counts) == (pending, counts)
        assert moment not in (2, 3) or bool(other._dropped) == (moment == 3)
        assert moment != 2 or not other.new_tokens()
        later, _ = play(other, moment, back)
        assert later == {name: each for name, each in found.items() if name not in back}
    assert other.submit(calls[0]) == [max(ids) + 1]


def test_what_comes_back_has_the_request_it_was_given(plain, tmp_path):
    served, other = engine(*plain), engine(*plain)
    key = jax.random.key(3)
    call = Call((1, 2), rng=key, stop=[np.array([1, 2], np.int64)], tag=[{1: None}, (2.5, b"x")])
    served.submit(call)
    served.submit(dataclasses.replace(call, rng=3, timeout=0.0))
    served.save(tmp_path / "a")
    other.load(tmp_path / "a")
    done = {each.id: each for each in other.poll(50)}
    assert done[1].status is Status.DEADLINE
    back = done[0].call
    assert (back.prompt, back.tag, back.eos) == (call.prompt, call.tag, None)
    assert back.stop[0].dtype == np.int64 and back.rng.dtype == key.dtype
    assert (jax.random.key_data(back.rng) == jax.random.key_data(key)).all()


DAMAGE = {
    "host.json is cut": lambda path: (path / "host.json").write_bytes(
        (path / "host.json").read_bytes()[:-9]
    ),
    "host.json is gone": lambda path: (path / "host.json").unlink(),
    "no hashes": lambda path: (path / "SHA256SUMS").unlink(),
    "an array is gone": lambda path: next(path.rglob("manifest.ocdbt")).unlink(),
    "a bit": lambda path: flip(max(path.rglob("d/*"), key=lambda file: file.stat().st_size)),
    "nothing is there": shutil.rmtree,
    "a file": lambda path: (shutil.rmtree(path), path.write_text("x")),
    "no arrays, and the hashes say so": lambda path: (
        shutil.rmtree(path / "arrays"),
        keep_lines(path / "SHA256SUMS", "host.json"),
    ),
    "another thing": lambda path: (
        (path / "host.json").write_text("{}"),
        keep_lines(path / "SHA256SUMS", "nothing"),
    ),
}


def flip(file):
    held = bytearray(file.read_bytes())
    held[len(held) // 2] ^= 4
    file.write_bytes(held)


def keep_lines(file, word):
    file.write_text("".join(x for x in file.read_text().splitlines(True) if word in x))


def test_nothing_else_loads(plain, tmp_path):
    """And the engine stays what it was."""
    served, other = engine(*plain), engine(*plain)
    served.submit(Call([1, 2, 3], rng=1))
    served.poll(1)
    served.save(tmp_path / "good")
    for number, (what, damage) in enumerate(DAMAGE.items()):
        path = shutil.copytree(tmp_path / "good", tmp_path / str(number))
        damage(path)
        with pytest.raises(ValueError, match=str(path)):
            other.load(path)
            pytest.fail(f"loaded: {what}")
        assert (other.pending, other._next) == (0, 0)
    with pytest.raises(ValueError, match="holds something already"):
        served.save(tmp_path / "good")
    with pytest.raises(ValueError, match="1 requests of the engine are not completed"):
        served.load(tmp_path / "good")
    served.submit(Call([1], tag=object()))
    with pytest.raises(ValueError, match="tag is a object, which cannot be stored"):
        served.save(tmp_path / "tag")
    assert not (tmp_path / "tag").exists()
    other.load(tmp_path / "good")
    assert len(rest(other)) == 1


def test_another_engine_does_not_load(plain, tmp_path):
    """The message names what differs."""
    decoder, params = plain
    engine(decoder, params).save(tmp_path / "good")
    altered = {"target": params["target"].at[5].add(1.0)}
    _, more = battery.pair(seed=3)
    ending = jaxdec.autoregressive(dataclasses.replace(decoder.model, eos=(1,)))
    others = [
        (engine(decoder, altered), r"parameters\['target'\] is float32"),
        (engine(decoder, {"target": more["target"]}), r"parameters\['target'\] is float32"),
        (engine(decoder, params, slots=2), "slots is 3, not 2"),
        (engine(decoder, params, places=9), "places is 8, not 9"),
        (engine(decoder, params, temperature=0.5), "settings.temperature is 1.0, not 0.5"),
        (engine(decoder, params, max_new_tokens=9), "max_new_tokens is 10, not 9"),
        (engine(ending, params), r"decoder.model.eos is \[\], not \[1\]"),
    ]
    for other, what in others:
        with pytest.raises(ValueError, match=what):
            other.load(tmp_path / "good")


def test_sums_of_parameters_see_any_change():
    held = np.arange(1, 7).reshape(2, 3)
    kinds = {
        str(x.dtype): x for x in map(held.astype, ["float32", "bfloat16", "int8", "complex64"])
    }
    kinds |= {"bool": held > 4, "none": np.zeros((0, 2)), "scalar": np.float32(3)}
    sums = identity.parameters(kinds)
    assert sums == identity.parameters(jax.tree.map(np.copy, kinds))
    for change in (lambda x: x[::-1], lambda x: x[:, ::-1], lambda x: x * (x != x[1, 2])):
        others = identity.parameters({n: change(x) if x.size > 1 else x for n, x in kinds.items()})
        assert {name for name in sums if sums[name] == others[name]} == {"['none']", "['scalar']"}


def test_values_that_can_be_stored_come_back():
    values = [
        None, True, 3, 0.1, float("inf"), "é", b"\0\xff", (), [(1, [2])], {1: {"a": b"b"}},
        np.int32(3), np.zeros((0, 3), np.uint8), np.arange(4, dtype=">i2").reshape(2, 2),
        np.asarray(jax.numpy.ones(3, "bfloat16")), np.array(2.5), np.array(["x", "yz"]),
    ]  # fmt: skip
    for value in values:
        back = written.from_json(json.loads(json.dumps(written.to_json(value))))
        assert type(back) is type(value)
        assert np.array_equal(back, value) if isinstance(value, np.ndarray) else back == value
        assert getattr(back, "dtype", None) == getattr(value, "dtype", None)
    with pytest.raises(ValueError, match=r"value\[0\]\['a'\] is a set, which cannot be stored"):
        written.to_json([{"a": {1}}])
