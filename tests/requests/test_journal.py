"""Whenever it is killed, an engine with a journal goes on: every request is completed once, with its tokens."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec.decoding import Status
from jaxdec.generation.requests import Call, Journal, Refused
from jaxdec.testing import battery
from tests.requests.served import engine, mixed

COUNT = 20


@pytest.fixture(scope="module")
def make():
    model, params = battery.pair()
    decoder = jaxdec.autoregressive(model)
    # As `quick_compilation` does, for all tests alike: programs that were compiled otherwise differ in the last bit.
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield lambda **more: engine(
        decoder, {"target": params["target"], **more.pop("also", {})}, **more
    )
    jax.config.update("jax_disable_most_optimizations", before)


def asked():
    """Requests, every fifth of which cannot be served; every seventh has samples."""
    calls = mixed(COUNT, seed=4)
    for number in range(0, COUNT, 5):
        calls[number] = dataclasses.replace(calls[number], max_new_tokens=11)
    for number in range(3, COUNT, 7):
        calls[number] = dataclasses.replace(calls[number], samples=2, rng=jax.random.key(number))
    return calls


def table(results):
    """What came back, by request and sample, but for when; fails if something came twice."""
    found = {}
    for each in results:
        if isinstance(each, Refused):
            name, own = (each.call.tag, "refused"), each.reason
        else:
            own = {f.name: getattr(each, f.name) for f in dataclasses.fields(each)}
            del own["started"], own["ended"], own["call"]
            own = {n: x.tolist() if isinstance(x, np.ndarray) else x for n, x in own.items()}
            name = each.call.tag, each.sample
        assert name not in found
        found[name] = own
    return found


@pytest.fixture(scope="module")
def expected(make):
    """Without a journal."""
    found = table(make().serve(asked(), steps=2))
    assert len(found) == COUNT + 2
    return found


def test_a_journal_changes_nothing(make, expected, tmp_path):
    assert table(make().serve(asked(), steps=2, journal=tmp_path, every=5)) == expected
    journal = Journal(tmp_path)
    assert table(journal.results()) == expected
    assert (journal.taken, journal.calls, len(journal.states())) == (COUNT, {}, 1)
    assert list(make().serve(asked(), journal=tmp_path)) == []
    assert table(make().serve(asked(), journal=tmp_path, replay=True)) == expected
    for each in journal.results():
        np.testing.assert_array_equal(each.call.prompt, asked()[each.call.tag].prompt)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("every", [1, 3, 1000])
def test_it_goes_on_after_any_write(make, expected, tmp_path, monkeypatch, every):
    """Each life ends in the middle of a write, a few writes later than the one before; what is half written is lost."""
    draw = np.random.default_rng(every)
    write = Journal._write
    left = 0

    def torn(self, lines, **more):
        nonlocal left
        lines, left = list(lines), left - 1
        if left > 0:
            return write(self, lines, **more)
        kept = int(draw.integers(0, len(lines) + 1))
        write(self, lines[:kept])
        self._file.write(b"01234567 {"[: draw.integers(0, 11)])
        self._file.flush()
        raise Killed

    monkeypatch.setattr(Journal, "_write", torn)
    given, lives = [], 0
    while True:
        lives, left = lives + 1, int(draw.integers(1, 10 if lives < 12 else 40))
        served = make()
        try:
            given += served.serve(asked(), steps=2, journal=tmp_path, every=every)
            break
        except Killed:
            continue
    monkeypatch.undo()
    assert lives > 5
    assert table(Journal(tmp_path).results()) == expected
    # What was written and not given away any more is in the journal alone.
    assert table(given).items() <= expected.items()


def test_a_consumer_may_stop_anywhere(make, expected, tmp_path):
    given = []
    for _ in range(50):
        results = make().serve(asked(), steps=2, journal=tmp_path, every=2)
        some = [each for each, _ in zip(results, range(4), strict=False)]
        results.close()
        given += some
        if not some:
            break
    assert table(given).items() <= expected.items()
    assert table(Journal(tmp_path).results()) == expected
    given = list(make().serve(asked(), journal=tmp_path, replay=True))
    assert table(given) == expected


def part(make, folder, results=7):
    """A journal of an engine that was stopped."""
    running = make().serve(asked(), steps=1, journal=folder, every=2)
    for _ in range(results):
        next(running)
    running.close()
    return Journal(folder)


def test_a_damaged_state_is_done_without(make, expected, tmp_path):
    (state,) = part(make, tmp_path).states()
    (state / "host.json").write_text("")
    list(make().serve(asked(), steps=7, journal=tmp_path))
    assert table(Journal(tmp_path).results()) == expected


@pytest.mark.slow
def test_an_engine_of_other_sizes_goes_on(make, expected, tmp_path):
    part(make, tmp_path)
    list(make(slots=5, ring=2).serve(asked(), steps=7, journal=tmp_path))
    assert table(Journal(tmp_path).results()) == expected


def test_what_was_taken_back_stays_so(make, tmp_path):
    calls = [Call([1, 2], eos=(), max_new_tokens=10, rng=n, tag=n) for n in range(7)]
    served = make()
    running = served.serve(calls, steps=2, journal=tmp_path, every=1000)
    assert next(running).id in (0, 1, 2)
    served.cancel([5, 6])
    next(running)  # it is written before the next poll
    served.cancel(4, Status.DEADLINE)
    while 4 not in Journal(tmp_path).dropped:
        next(running)
    running.close()
    list(make().serve(calls, journal=tmp_path))
    status = {each.id: each.status for each in Journal(tmp_path).results()}
    assert [status[n] for n in (5, 6, 4)] == [Status.CANCELLED] * 2 + [Status.DEADLINE]
    assert len(status) == 7


def test_what_was_taken_back_just_before_a_kill_stays_so(make, tmp_path):
    """It is written; the engine was saved before, and the poll that ends it never came."""
    calls = [Call([1, 2], eos=(), max_new_tokens=10, rng=n, tag=n) for n in range(7)]
    running = make().serve(calls, steps=2, journal=tmp_path, every=1)
    next(running)
    running.close()
    journal = Journal(tmp_path)
    with journal.writing(make()):
        journal.drop({6: Status.DEADLINE})
    list(make().serve(calls, journal=tmp_path))
    status = {each.id: each.status for each in Journal(tmp_path).results()}
    assert status == {n: Status.LENGTH for n in range(6)} | {6: Status.DEADLINE}


def test_what_gives_each_request_once_is_not_passed_over(make, expected, tmp_path):
    source = iter(asked())
    running = make().serve(source, steps=1, journal=tmp_path)
    for _ in range(4):
        next(running)
    running.close()
    list(make().serve(source, journal=tmp_path, skip=False))
    assert table(Journal(tmp_path).results()) == expected


def test_what_cannot_be_stored_is_refused(make, tmp_path):
    calls = [Call([1]), Call([1], tag=object()), "x", Call([2], max_new_tokens=2)]
    found = list(make().serve(calls, journal=tmp_path))
    reasons = [each.reason for each in found if isinstance(each, Refused)]
    assert reasons == [
        "a request's tag is a object, which cannot be stored",
        "a request must be a Call, got str",
    ]
    assert Journal(tmp_path).taken == 4 and len(found) == 4
    assert [each.call for each in Journal(tmp_path).results() if isinstance(each, Refused)] == [
        None
    ] * 2
    assert list(make().serve(calls, journal=tmp_path)) == []


def test_one_engine_writes_and_only_what_it_is_asked_for(make, tmp_path):
    first = make()
    running = first.serve(asked(), steps=1, journal=tmp_path)
    next(running)
    with pytest.raises(ValueError, match="is being written by another engine"):
        next(make().serve(asked(), journal=tmp_path))
    first.submit(Call([1]))
    with pytest.raises(RuntimeError, match=r"beside the journal|is not in the journal"):
        list(running)
    with pytest.raises(ValueError, match="requests of the engine are not completed"):
        next(first.serve(asked(), journal=tmp_path))


def test_another_engine_does_not_go_on(make, tmp_path):
    journal = part(make, tmp_path)
    _, others = battery.pair(seed=9)
    with pytest.raises(ValueError, match=r"journal .* of another engine: parameters\['target'\]"):
        next(make(also={"target": others["target"]}).serve([], journal=tmp_path))
    with pytest.raises(
        ValueError, match=r"of another engine: settings.temperature is 1.0, not 2.0"
    ):
        next(make(temperature=2.0).serve([], journal=tmp_path))
    held = journal._path.read_bytes()
    lines = held.splitlines(True)
    for number in (1, 3):
        flipped = lines[number].replace(b'"', b"'", 1)
        journal._path.write_bytes(b"".join([*lines[:number], flipped, *lines[number + 1 :]]))
        with pytest.raises(ValueError, match=f"line {number + 1} of .*journal.jsonl is damaged"):
            next(make().serve([], journal=tmp_path))
    journal._path.write_bytes(held)
    with pytest.raises(ValueError, match="every must lie in"):
        next(make().serve([], journal=tmp_path, every=0))
