"""The slot engine: calls, good and bad, to engines that live on: what is bad is refused, and nobody else notices."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st

import jaxdec
from jaxdec.generation.requests import Call, Engine
from jaxdec.testing.battery.cases import NEVER
from tests.fuzz import subjects, values
from tests.fuzz.generating import nested
from tests.fuzz.subjects import Bad, Strange, V
from tests.fuzz.surface import TAKEN, Surface, mixed, refused, tried
from tests.fuzz.values import made, reals

WIDTH, BUDGET, PLACES = 8, 12, 8
NAMES = ("plain", "tree")
KNOBS = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}

token = st.integers(0, V - 1)
words = lambda least, most: st.lists(token, min_size=least, max_size=most)
SETTINGS: dict[str, st.SearchStrategy] = {
    "temperature": st.just(0.0) | reals(0, 4),
    "top_k": st.integers(0, V + 2),
    "top_p": reals(0, 1, exclude_min=True),
    "min_p": reals(0, 1),
    "repetition_penalty": reals(0.25, 4),
}


@functools.cache
def engine(name: str) -> Engine:
    """One for all inputs."""
    served = Engine(
        subjects.decoder(name),
        subjects.PARAMS,
        slots=2,
        places=PLACES,
        chunk=4,
        max_prompt=WIDTH,
        max_new_tokens=BUDGET,
        **KNOBS,
    )
    served.warm_up()
    return served


@dataclasses.dataclass(frozen=True)
class Good:
    """Calls that are right, all at once.

    Attributes:
      decoder: its name.
      calls: arguments of each.
      steps: between two looks.
    """

    decoder: str
    calls: list[dict[str, Any]]
    steps: int


@st.composite
def calls(draw: Any) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(sorted(SETTINGS)), max_size=4, unique=True))
    return dict(
        prompt=draw(values.in_some_form(words(1, WIDTH))),
        rng=draw(st.integers(0, 2**32 - 1)),
        max_new_tokens=draw(st.integers(0, BUDGET)),
        eos=draw(words(2, 2)),
        stop=[draw(words(3, 3)), draw(words(1, 3))],
        samples=draw(st.sampled_from([1, 1, 1, 2])),
        priority=draw(st.integers(-3, 3)),
        knobs={name: draw(SETTINGS[name]) for name in chosen},
    )


good = st.builds(
    Good, st.sampled_from(NAMES), st.lists(calls(), min_size=1, max_size=4), st.integers(1, 9)
)

WRONG: dict[str, st.SearchStrategy] = {
    "max_new_tokens": values.wrong_integers("max_new_tokens", 0, BUDGET, rows=False),
    "samples": values.wrong_integers("samples", 1, PLACES, rows=False),
    "priority": values.wrong_integers("priority", -(2**31), rows=False),
    "deadline": values.wrong_integers("deadline", 0, 2**29, rows=False),
    "timeout": st.sampled_from([-1, -0.5, np.nan, np.inf, 10**400, "1", True, [1.0], 1j]).map(
        lambda value: (value, ("timeout",))
    ),
    "rng": st.sampled_from([-1, 2**32, 1.5, "1", True, None, [], [1, 2], [[1]], (-1,)]).map(
        lambda value: (value, ("rng",))
    ),
    "prompt": st.one_of(
        words(WIDTH + 1, 3 * WIDTH).map(lambda x: (x, (str(len(x)), str(WIDTH)))),
        values.wrong_tokens(V).map(lambda x: ([1, x], ())),
        st.sampled_from([[], [[1]], [[1], [1, 2]], 3, "ab", None, [1.5], [True], [None]]).map(
            lambda x: (x, ("prompt",))
        ),
    ),
    "eos": st.one_of(
        words(5, 9).map(lambda x: (x, ("eos", str(len(x))))),
        values.wrong_tokens(V).map(lambda x: ([x], ("eos",))),
    ),
    "stop": st.one_of(
        st.lists(words(1, 2), min_size=5, max_size=7).map(lambda x: (x, ("stop", str(len(x))))),
        words(9, 12).map(lambda x: ([x], ("stop", str(len(x))))),
        st.just(([[]], ("stop",))),
    ),
    "stop_strings": st.sampled_from(["a", ["a"], [["a"]], b"a", 3]).map(
        lambda x: (x, ("stop_strings",))
    ),
    "visible": st.just(([True], ("visible",))),
    "knobs": st.one_of(
        values.wrong_reals("temperature", 0).map(
            lambda pair: ({"temperature": pair[0]}, pair[1][:1])
        ),
        st.sampled_from(["hot", 3, [1], {1: 2}, {"heat": 1}, {"typical": 0.5}, None]).map(
            lambda x: (x, ())
        ),
    ),
}
ASKED = ("prompt", "rng", "max_new_tokens", "eos", "stop", "samples", "priority", "deadline")


@st.composite
def bad(draw: Any) -> Bad:
    kind = draw(st.sampled_from(sorted(WRONG)))
    value, said = draw(WRONG[kind])
    return Bad(draw(st.sampled_from(NAMES)), {kind: value}, tuple(said))


@st.composite
def strange(draw: Any) -> Strange:
    return Strange(
        draw(st.sampled_from(NAMES)),
        draw(st.sampled_from(ASKED)),
        draw(nested | values.junk),
    )


def of(options: dict[str, Any]) -> Call:
    """A call with all that is not asked for left as it is."""
    given = {"prompt": [1, 2], "eos": [NEVER] * 2, "max_new_tokens": 2, **options}
    if isinstance(given.get("knobs"), dict):
        given["knobs"] = {name: made(value) for name, value in given["knobs"].items()}
    return Call(**{name: made(value) for name, value in given.items()})


def attempt(given: Good | Bad | Strange) -> str:
    served = engine(given.decoder)
    if isinstance(given, Bad):
        call = of(given.options)
        return refused(lambda: served.submit(call), *given.words)
    if isinstance(given, Strange):
        said = tried(lambda: served.submit(of({given.name: given.value})), "")
        while served.pending:
            served.poll(9)
        return said
    room = PLACES
    asked = []
    for options in given.calls:
        room -= options["samples"]
        asked += [of(options)] * (room >= 0)
    done = list(served.serve(asked, steps=given.steps))
    assert sorted((id(each.call), each.sample) for each in done) == sorted(
        (id(call), sample) for call in asked for sample in range(call.samples)
    ), "not every request came back once"
    for each in done:
        if each.sample == 0:
            alone(given.decoder, each)
    return TAKEN


def alone(name: str, done: Any) -> None:
    """Raises `AssertionError` unless a request has the tokens that it has alone."""
    call = done.call
    prompt = np.zeros((1, WIDTH), np.int32)
    prompt[0, : len(call.prompt)] = np.asarray(call.prompt)
    result = jaxdec.generate(
        subjects.decoder(name),
        subjects.PARAMS,
        prompt,
        lengths=[len(call.prompt)],
        rng=[call.rng],
        max_new_tokens=call.max_new_tokens,
        most_new_tokens=BUDGET,
        eos=call.eos,
        stop=call.stop,
        **{**KNOBS, **call.knobs},
    )
    expected = np.asarray(result.tokens)[0, : int(result.lengths[0])]
    assert done.tokens.tolist() == expected.tolist(), f"{done.tokens} and alone {expected}"
    assert done.status is result.status[0], f"{done.status} and alone {result.status[0]}"
    counts = jax.tree.map(lambda x: int(x[0]), result.stats)
    assert done.stats == counts, f"{done.stats} and alone {counts}"


SURFACE = Surface(
    name="requests",
    about="calls to a slot engine over plain and tree decoders: prompts, budgets, settings, stops, samples",
    inputs=mixed((4, bad()), (2, strange()), (3, good)),
    attempt=attempt,
    short=60,
    slow=600,
    long=10_000,
    part=1000,
)
