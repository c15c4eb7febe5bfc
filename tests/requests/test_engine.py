"""Whatever runs beside it, and whenever it gets a slot, a request has the tokens that it has alone."""

import contextlib
import dataclasses
import logging
import queue

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec import catalogue
from jaxdec.decoding import Status
from jaxdec.generation.requests import (
    Call,
    FirstCome,
    Refused,
    SameRemaining,
    ShortestFirst,
)
from jaxdec.testing import battery
from jaxdec.testing.battery.cases import NO_TOKEN_TWICE, Letters
from tests.requests.served import MOST, VOCAB, alone, engine, mixed, same

SAMPLES = {
    name: (method, sample)
    for method in catalogue.METHODS.values()
    for name, sample in method.samples.items()
}
KINDS = ("draft", "sequoia", "eagle", "assd", "threshold", "fast-dllm-v2")
"""A chain, a tree, drafts by features, any subset, a canvas, a canvas with a cache."""


ONE = {"slots": 1, "places": 4}


def built(name):
    method, sample = SAMPLES[name]
    model, params = battery.pair()
    decoder, more = battery.built(sample, model)
    return decoder, {**params, **more}, method.infills


@pytest.fixture(autouse=True)
def _quickly(quick_compilation):
    """The models are tiny."""


@pytest.fixture(scope="module")
def plain():
    model, params = battery.pair()
    return jaxdec.autoregressive(model), {"target": params["target"]}


@pytest.fixture(scope="module")
def expected(plain):
    return [alone(*plain, call) for call in mixed(16)]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in KINDS else pytest.mark.slow) for n in SAMPLES],
)
def test_requests_have_the_tokens_that_they_have_alone(name):
    """Bit for bit, with their records and counts: every kind of decoder, every method of the catalogue."""
    decoder, params, gaps = built(name)
    calls = mixed(9, gaps=gaps, stops=False, seed=3)
    done = list(engine(decoder, params, gaps=gaps).serve(calls, steps=4))
    assert sorted(each.call.tag for each in done) == list(range(len(calls)))
    for each in done:
        expected = alone(decoder, params, each.call)
        if not getattr(
            decoder, "steps_alone", True
        ):  # tokens do not depend on neighbours, steps do
            for name in expected.keys() & {"stats", "steps", "drafted"}:
                expected[name] = getattr(each, name)
        elif isinstance(decoder, jaxdec.Adaptive):  # a step scores what the neediest row asks for
            own = dict(target_rows=each.stats.target_rows, draft_forwards=each.stats.draft_forwards)
            expected["stats"] = dataclasses.replace(expected["stats"], **own)
        same(each, expected)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"slots": 1, "chunk": 16, "reads": 1, "policy": ShortestFirst()},
        {"slots": 2, "policy": SameRemaining(4)},
        {**ONE, "policy": FirstCome()},
        pytest.param({"slots": 5, "ring": 1, "places": 1}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_neither_slots_nor_order_nor_chunks_change_a_token(plain, expected, settings):
    done = list(engine(*plain, **settings).serve(mixed(16), steps=7))
    assert sorted(each.call.tag for each in done) == list(range(16))
    for each in done:
        same(each, expected[each.call.tag])


def test_nothing_compiles_after_the_first_requests(plain):
    """Of any lengths, knobs, stops, priorities and samples."""
    served = engine(*plain)
    served.warm_up()
    with compilations() as compiled:
        calls = [*mixed(6, seed=5), Call([3, 4], samples=3, priority=7, deadline=9, timeout=60.0)]
        done = list(served.serve(calls, steps=5))
        served.cancel(served.submit(Call([1])))
        list(served.serve([]))
    assert len(done) == 9
    assert [name for name in compiled if "Compiling" in name] == []
    with compilations() as compiled:  # it does hear them
        jax.jit(lambda x: x + 41)(1)
    assert any("Compiling" in name for name in compiled)


@contextlib.contextmanager
def compilations():
    """What is compiled inside, as JAX says it."""
    names = []
    handler = logging.Handler()
    handler.emit = lambda record: names.append(record.getMessage())
    log = logging.getLogger("jax._src.interpreters.pxla")
    log.addHandler(handler)
    try:
        with jax.log_compiles():
            yield names
    finally:
        log.removeHandler(handler)


def test_an_engine_with_requests_is_not_warmed_up(plain):
    """What ended meanwhile would be lost."""
    served = engine(*plain)
    served.submit(Call([1]))
    with pytest.raises(ValueError, match="1 requests are not completed"):
        served.warm_up()
    assert len(list(served.serve([]))) == 1


def test_gaps_that_are_taken_back_keep_what_is_visible():
    decoder, params, _ = built("assd")
    served = engine(decoder, params, gaps=True)
    tokens, visible = np.arange(6) % VOCAB, np.array([0, 1, 0, 1, 1, 0], bool)
    served.cancel(served.submit(Call(tokens, visible=visible)))
    (done,) = served.poll(1)
    assert done.status is Status.CANCELLED and done.prompt_length == 3
    np.testing.assert_array_equal(done.tokens, tokens[visible])
    np.testing.assert_array_equal(done.sequence, tokens)


def test_samples_of_a_prompt_are_hypotheses_and_it_is_read_once(plain):
    decoder, params = plain
    prompt = np.arange(10) % VOCAB
    served = engine(decoder, params)
    done = list(served.serve([Call(prompt, rng=4, samples=6, eos=())]))
    reads = -(-9 // 4)
    assert served.counts["reads"] == reads
    rows = jaxdec.generate(
        decoder, params, prompt[None], rng=4, hypotheses=6, eos=(), temperature=1.0, **_budget()
    )
    for each in done:
        np.testing.assert_array_equal(each.tokens, np.asarray(rows.tokens)[each.sample, :20])


def _budget():
    return {"max_new_tokens": MOST["max_new_tokens"]}


def test_a_shared_beginning_is_read_once(plain, expected):
    decoder, params = plain
    calls = mixed(16)
    prefixes = [calls[0].prompt[:5], calls[1].prompt[:6], calls[1].prompt[:2]]
    served = engine(decoder, params, prefixes=[p for p in prefixes if len(p)])
    without = engine(decoder, params)
    done = list(served.serve(calls))
    list(without.serve(calls))
    for each in done:
        same(each, expected[each.call.tag])
    assert served.counts["reads"] < without.counts["reads"]


def test_canvases_refuse_shared_beginnings():
    decoder, params, _ = built("threshold")
    with pytest.raises(ValueError, match="there are 1 prefixes"):
        engine(decoder, params, prefixes=[[1]])


def test_higher_priority_goes_first_and_short_ones_with_shortest_first(plain):
    order = lambda served, calls: [each.call.tag for each in served.serve(calls, steps=1)]
    calls = [
        Call([1], eos=(), max_new_tokens=4, priority=p, tag=t) for t, p in enumerate((0, 0, 2, 1))
    ]
    assert order(engine(*plain, **ONE), calls) == [2, 3, 0, 1]
    calls = [Call([1], eos=(), max_new_tokens=n, tag=n) for n in (5, 2, 4, 1)]
    assert order(engine(*plain, chunk=16, reads=1, slots=1, policy=ShortestFirst()), calls) == [
        1,
        2,
        4,
        5,
    ]


def test_requests_with_as_many_tokens_to_go_run_together(plain):
    served = engine(*plain, slots=2, policy=SameRemaining(4))
    calls = [Call([1], eos=(), max_new_tokens=n, tag=t) for t, n in enumerate((9, 3, 9, 3))]
    assert [each.call.tag for each in served.serve(calls, steps=1)][:2] == [0, 2]


def test_deadlines_end_rows_and_waiting_requests(plain):
    decoder, params = plain
    served = engine(decoder, params, **ONE)
    calls = [
        Call([1, 2], eos=(), rng=1, max_new_tokens=10, deadline=4, tag="cut"),
        Call([1, 2], eos=(), rng=1, max_new_tokens=10, deadline=2, tag="late"),
        Call([1, 2], eos=(), rng=1, max_new_tokens=10, tag="whole"),
    ]
    done = {each.call.tag: each for each in served.serve(calls, steps=50)}
    assert done["cut"].status is Status.DEADLINE and len(done["cut"].new_tokens) == 4
    assert done["late"].status is Status.DEADLINE and not len(done["late"].new_tokens)
    assert done["whole"].status is Status.LENGTH
    np.testing.assert_array_equal(done["whole"].tokens[:6], done["cut"].tokens)


def test_timeouts_end_requests_at_the_next_poll(plain):
    served = engine(*plain)
    served.submit(Call([1], eos=(), timeout=0.0))
    assert [each.status for each in served.poll(0) + served.poll(1)] == [Status.DEADLINE]
    assert served.pending == 0


def test_requests_are_taken_back_wherever_they_are(plain):
    """Queued, running or gone; nobody else notices."""
    served = engine(*plain, **ONE)
    calls = [Call([1, 2, 3], rng=n, eos=(), max_new_tokens=10, tag=n) for n in range(4)]
    ids = [served.submit(call)[0] for call in calls]
    done = served.poll(3)
    served.cancel([ids[0], ids[2], 99])
    while served.pending:
        done += served.poll(3)
    by_tag = {each.call.tag: each for each in done}
    assert len(done) == 4
    assert [by_tag[n].status for n in (0, 2)] == [Status.CANCELLED] * 2
    assert len(by_tag[0].new_tokens) == 3 and not len(by_tag[2].new_tokens)
    for n in (1, 3):
        same(by_tag[n], alone(*plain, Call(**{**vars(calls[n]), "knobs": {"temperature": 1.0}})))
    served.cancel(ids)  # they are gone
    assert served.poll(1) == []


def test_a_request_whose_law_is_not_finite_ends_alone(plain):
    decoder, params = plain
    table = np.array(params["target"])
    table[::9] = np.nan
    broken = {"target": table}
    calls = mixed(16, stops=False)
    done = list(engine(decoder, broken).serve(calls))
    assert {Status.NONFINITE, Status.LENGTH} <= {each.status for each in done}
    for each in done:
        same(each, alone(decoder, broken, each.call))


def test_tokens_are_told_as_they_come(plain):
    served = engine(*plain)
    ids = [served.submit(call)[0] for call in mixed(5)]
    told = {name: [] for name in ids}
    while served.pending:
        for each in served.poll(2):
            told[each.id] += each.new_tokens[len(told[each.id]) :].tolist()
            assert told[each.id] == each.new_tokens.tolist()
        for name, tokens in served.new_tokens().items():
            told[name] += tokens.tolist()


def test_the_queue_pushes_back(plain):
    served = engine(*plain, **ONE)
    assert served.room == 4
    for _ in range(4):
        served.submit(Call([1]))
    assert served.room == 0
    with pytest.raises(queue.Full, match="4 requests wait"):
        served.submit(Call([1]))
    served.poll(1)  # one is staged or runs
    assert served.room >= 1


BAD = [
    (Call(np.zeros(13, int)), "13 tokens; the engine takes 12"),
    (Call([1], max_new_tokens=11), r"max_new_tokens.*11"),
    (Call([VOCAB + 99]), "outside the vocabulary"),
    (Call(np.zeros(0, int)), "0 tokens"),
    (Call([]), "0 tokens"),
    (Call([1.5]), "integer tokens"),
    (Call([[1]]), "shape"),
    (Call([1], visible=[True]), "without gaps"),
    (Call([1], eos=(1, 2, 3, 4, 5)), "5 eos tokens; there is room for 4"),
    (Call([1], stop=[[1]] * 5), "5 stop sequences; there is room for 4"),
    (Call([1], stop=[[1] * 9]), "9 tokens of a stop sequence; there is room for 8"),
    (Call([1], stop_strings="ab"), "one of the sets"),
    (Call([1], knobs={"top_k": 3}), "made without the setting 'top_k'"),
    (Call([1], knobs={"temperature": -1.0}), "temperature"),
    (Call([1], samples=0), "samples"),
    (Call([1], samples=9), "9"),
    (Call([1], rng=-1), "rng"),
    (Call([1], deadline=-1), "deadline"),
    (Call([1], timeout=-1), "timeout"),
    (Call([1], priority="high"), "priority"),
    ("a string", "must be a Call"),
]


def test_what_cannot_be_served_is_refused_and_disturbs_nobody(plain, expected):
    served = engine(*plain)
    calls = mixed(16)
    done = list(served.serve([*(call for call, _ in BAD), *calls]))
    refused = [each for each in done if isinstance(each, Refused)]
    assert len(refused) == len(BAD)
    for each, (call, message) in zip(refused, BAD, strict=True):
        assert each.call is call
        with pytest.raises(ValueError, match=message):
            raise ValueError(each.reason)
    for each in done:
        if not isinstance(each, Refused):
            same(each, expected[each.call.tag])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slots": 0}, "slots"),
        ({"max_prompt": 0}, "max_prompt"),
        ({"policy": FirstCome}, "policy"),
        ({"chunk": 0}, "chunk"),
        ({"reads": 0}, "reads"),
        ({"no_such": 1}, "no_such"),
        ({"stop_strings": ["ab"]}, "tokenizer"),
        ({"constraint": NO_TOKEN_TWICE}, "an engine holds no automata"),
    ],
)
def test_impossible_engines_are_refused(plain, settings, message):
    with pytest.raises(ValueError, match=message):
        engine(*plain, **settings)


def test_stop_strings_are_named_by_set(plain):
    decoder, params = plain
    letters = Letters()
    sets = [["ab", "c"], ["ba"]]
    served = engine(decoder, params, stop_strings=sets, tokenizer=letters)
    calls = [Call([1, 2], rng=n, eos=(), stop_strings=[(), *sets][n % 3], tag=n) for n in range(9)]
    done = {each.call.tag: each for each in served.serve(calls)}
    assert any(each.status is Status.STOP_SEQUENCE for each in done.values())
    for call in calls:
        strings = {"stop_strings": call.stop_strings} if call.stop_strings else {}
        result = jaxdec.generate(
            decoder,
            params,
            np.asarray([call.prompt]),
            rng=[call.rng],
            eos=(),
            temperature=1.0,
            tokenizer=letters,
            **strings,
            **_budget(),
        )
        length = int(result.lengths[0])
        np.testing.assert_array_equal(done[call.tag].tokens, np.asarray(result.tokens)[0, :length])
        assert done[call.tag].status is result.status[0]
