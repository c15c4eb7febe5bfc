"""Whenever it is killed, an engine with a journal goes on: every request is completed once, with its tokens."""

import dataclasses
import itertools
import shutil

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec.decoding import Status
from jaxdec.generation.requests import Call, Completed, Journal, Refused
from jaxdec.testing import battery
from tests.requests.served import engine, mixed

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT = 24


@pytest.fixture(scope="module")
def make():
    model, params = battery.pair()
    decoder = jaxdec.autoregressive(model)
    return lambda **more: engine(decoder, {"target": params["target"]}, **more)


def asked(count=COUNT):
    """Requests, every fifth of which cannot be served, and every seventh has samples."""
    calls = mixed(count, seed=4)
    for number in range(0, count, 5):
        calls[number] = dataclasses.replace(calls[number], max_new_tokens=11)
    calls[2] = dataclasses.replace(calls[2], tag=object())
    for number in range(3, count, 7):
        calls[number] = dataclasses.replace(calls[number], samples=2, rng=jax.random.key(number))
    return calls


def content(each):
    """What a request is and what came back of it, but for when."""
    if isinstance(each, Refused):
        return each.reason
    own = {f.name: getattr(each, f.name) for f in dataclasses.fields(each)}
    del own["started"], own["ended"], own["call"]
    own["tag"] = each.call.tag
    return {name: np.asarray(x).tolist() if name != "stats" else x for name, x in own.items()}


def table(results):
    """By id, those that were refused by reason; fails if something comes twice."""
    found = {}
    for each in results:
        name = each.id if isinstance(each, Completed) else each.reason
        if name in found:
            assert isinstance(each, Refused)
            name = len(found), name
        found[name] = content(each)
    return sorted(found.items(), key=str)


@pytest.fixture(scope="module")
def expected(make):
    found = table(make().serve(asked(), steps=2))
    assert len(found) == COUNT + 3
    return found


def answers(results):
    return dict(x for x in table(results) if isinstance(x[0], int))


def test_a_journal_changes_nothing(make, expected, tmp_path):
    served = make()
    found = list(served.serve(asked(), steps=2, journal=tmp_path, every=5))
    reason = "a request's tag is a object, which cannot be stored"
    assert reason in [each.reason for each in found if isinstance(each, Refused)]
    have = answers(found)
    # The one without a tag that can be stored has no id, so that those behind it have one less.
    plain = [dataclasses.replace(c, tag=None) if i == 2 else c for i, c in enumerate(asked())]
    del plain[2]
    assert have == answers(make().serve(plain, steps=2))
    assert table(Journal(tmp_path).results()) == table(found)
    assert list(make().serve(asked(), journal=tmp_path)) == []
    assert table(make().serve(asked(), journal=tmp_path, replay=True)) == table(found)
    assert Journal(tmp_path).taken == COUNT and not Journal(tmp_path).calls
    for each in Journal(tmp_path).results():
        if isinstance(each, Completed):
            np.testing.assert_array_equal(each.call.prompt, asked()[each.call.tag].prompt)
