"""`jaxdec.generate`: every argument, good and bad, over plain, chain, tree and canvas decoders."""

import dataclasses
from typing import Any

import numpy as np
from hypothesis import strategies as st

import jaxdec
from jaxdec.testing.battery.cases import NEVER, OFF, READ_LEFT, Letters
from tests.fuzz import subjects, values
from tests.fuzz.subjects import CANVASES, PROMPTED, Bad, Strange, V
from tests.fuzz.surface import TAKEN, Surface, mixed, refused, tried
from tests.fuzz.values import BATCH, made, reals
from tests.fuzz.wrong_arguments import WRONG

WIDTH, BUDGET = 8, 12
NAMES = (*PROMPTED, *CANVASES)
PLAIN = dict(
    prompt=np.array([[1, 2, 3], [4, 5, 0], [1, 1, 1]]),
    rng=(1, 2, 3),
    max_new_tokens=6,
    eos=(NEVER, NEVER),
    stop=([NEVER] * 3, [NEVER] * 3),
    stop_strings=("~",),
    tokenizer=Letters(),
    top_log_probs=2,
)
"""Arguments that all decoders take; with `knobs` they are those of every program."""

token = st.integers(0, V - 1)
words = lambda least, most: st.lists(token, min_size=least, max_size=most)
rows = lambda each: st.lists(each, min_size=BATCH, max_size=BATCH)
bans = st.lists(st.sampled_from([1, 2]), max_size=2).map(
    lambda found: np.isin(np.arange(V), [*found, NEVER])
)
bias = st.builds(
    lambda off, most: np.array([-np.inf if off else 0.5, *most]),
    st.booleans(),
    st.lists(reals(-4, 4), min_size=V - 1, max_size=V - 1),
)
given_tokens = st.lists(st.integers(-1, V - 1), min_size=4, max_size=4)
stacked = lambda each: each | rows(each).map(np.stack)
small = 1e-30

KNOBS: dict[str, st.SearchStrategy] = {
    "temperature": values.by_row(st.just(0.0) | reals(0, 4) | st.sampled_from([1e-40, 1e30, 1])),
    "top_k": values.by_row(st.integers(0, V + 2) | st.sampled_from([2**40, 2**62])),
    "top_p": values.by_row(reals(0, 1, exclude_min=True)),
    "min_p": values.by_row(reals(0, 1)),
    "typical": values.by_row(reals(0, 1, exclude_min=True)),
    "epsilon": values.by_row(reals(0, 1, exclude_max=True)),
    "top_h": values.by_row(reals(0, 1, exclude_min=True)),
    "repetition_penalty": values.by_row(reals(small, 4, exclude_min=True)),
    "presence_penalty": values.by_row(reals(-4, 4) | st.sampled_from([-3e38, 3e38])),
    "frequency_penalty": values.by_row(reals(-4, 4) | st.sampled_from([-3e38, 3e38])),
    "logit_bias": stacked(bias),
    "banned": stacked(bans),
    "no_repeat_ngram": values.by_row(st.integers(0, 6) | st.just(2**40)),
    "bad_words": st.tuples(words(3, 3), words(1, 3)).map(list),
    "min_new_tokens": values.by_row(st.integers(0, 20)),
    "forced_prefix": given_tokens | rows(given_tokens) | given_tokens.map(np.array),
}
"""Good values of every setting of `Warp`, each of one shape."""

seed = st.integers(0, 2**32 - 1)
ARGUMENTS: dict[str, st.SearchStrategy] = {
    "rng": rows(seed),
    "max_new_tokens": values.by_row(st.integers(0, BUDGET)),
    "eos": words(2, 2),
    "stop": st.tuples(words(3, 3), words(1, 3)).map(list),
    "stop_strings": rows(st.lists(st.sampled_from(["a", "b", "ab", "ba", "aa"]), max_size=2)),
}
"""Good values of what else is asked of every row."""


@st.composite
def prompts(draw: Any) -> dict[str, Any]:
    """Prompts and lengths; what stands behind a prompt is anything."""
    width = draw(st.integers(1, WIDTH))
    lengths = draw(rows(st.integers(1, width)))
    flat = draw(st.lists(token, min_size=BATCH * width, max_size=BATCH * width))
    prompt = np.reshape(flat, (BATCH, width))
    behind = np.arange(width) >= np.array(lengths)[:, None]
    filler = draw(st.sampled_from([0, -1, V, 2**31 - 1]))
    return dict(prompt=np.where(behind, filler, prompt), lengths=lengths)


def knobs_of(decoder: Any) -> dict[str, st.SearchStrategy]:
    """Good values of a decoder's own settings."""
    found = {}
    for name, knob in getattr(decoder, "knobs", {}).items():
        low, high = max(knob.low, -100), min(knob.high, 100)
        each = st.integers(int(low), int(high)) if knob.integer else reals(low, high)
        found[name] = values.by_row(each)
    return found


def off(name: str) -> dict[str, Any]:
    """Every setting that a decoder takes, each off."""
    left = READ_LEFT if name in CANVASES else ()
    fixed = {**OFF, "bad_words": [[NEVER] * 3, [NEVER]]}
    return {knob: value for knob, value in fixed.items() if knob not in left}


@dataclasses.dataclass(frozen=True)
class Good:
    """A call that is right.

    Attributes:
      decoder: its name.
      options: that differ from `PLAIN` and `off`.
      row: is decoded alone as well.
      hypotheses: of each prompt.
    """

    decoder: str
    options: dict[str, Any]
    row: int
    hypotheses: int = 1


@st.composite
def good(draw: Any, names: tuple[str, ...] = NAMES, hypotheses: tuple[int, ...] = (1,)) -> Good:
    name = draw(st.sampled_from(names))
    own = knobs_of(subjects.decoder(name))
    every = {**{knob: KNOBS[knob] for knob in off(name)}, **ARGUMENTS, **own}
    chosen = draw(st.lists(st.sampled_from(sorted(every)), max_size=6, unique=True))
    options = {argument: draw(every[argument]) for argument in chosen}
    if draw(st.booleans()):
        options |= draw(prompts())
    row = draw(st.integers(0, BATCH - 1))
    # Several hypotheses are programs of their own, so one decoder has them.
    count = draw(st.sampled_from(hypotheses)) if name == "chain" else 1
    return Good(name, options, row, count)


def decode(name: str, options: dict[str, Any], **more: Any) -> Any:
    given = {**PLAIN, **off(name), **options, **more}
    prompt, decoder = given.pop("prompt"), given.pop("decoder", subjects.decoder(name))
    params = given.pop("params", subjects.PARAMS)
    return jaxdec.generate(decoder, params, prompt, **given)


ONE_FOR_ALL = ("eos", "stop", "bad_words")


def alone(options: dict[str, Any], row: int) -> dict[str, Any]:
    """What a row gets of the arguments of a batch."""
    given = {**PLAIN, **options}
    prompt = np.asarray(given["prompt"])
    lengths = given.pop("lengths", [prompt.shape[1]] * BATCH)
    found = dict(
        prompt=prompt[row : row + 1, : lengths[row]], rng=int(np.asarray(given["rng"])[row])
    )
    for name, value in options.items():
        if name in ("prompt", "lengths", "rng"):
            continue
        dims = 1 + (name in ("logit_bias", "banned", "forced_prefix"))
        split = name not in ONE_FOR_ALL and (name == "stop_strings" or np.ndim(value) == dims)
        found[name] = (
            (value if name == "stop_strings" else np.asarray(value))[row : row + 1]
            if split
            else value
        )
    return found


def attempt(given: Good | Bad | Strange) -> str:
    if isinstance(given, Good):
        more = {"hypotheses": given.hypotheses}
        whole = decode(given.decoder, given.options, **more)
        single = decode(given.decoder, alone(given.options, given.row), **more)
        first = given.row * given.hypotheses
        subjects.same(whole, slice(first, first + given.hypotheses), single)
        return TAKEN
    ready(given.decoder)
    if isinstance(given, Bad):
        options = {name: made(value) for name, value in given.options.items()}
        call = lambda: decode(given.decoder, options)
        return refused(call, *given.words, inferred=given.inferred)
    options = {**PLAIN, given.name: made(given.value)}
    options.pop("rng")
    prompt = options.pop("prompt")
    decoder = subjects.decoder(given.decoder)
    call = lambda: jaxdec.prepare(decoder, subjects.PARAMS, prompt, **options)
    said = () if given.name in ("prompt", "lengths") else (given.name.split("_")[0],)
    return tried(call, *said)


_ready: set[str] = set()


def ready(name: str) -> None:
    """Asks a network for its shapes, which is done once."""
    if name not in _ready:
        options = {key: value for key, value in PLAIN.items() if key != "rng"}
        jaxdec.prepare(subjects.decoder(name), subjects.PARAMS, options.pop("prompt"), **options)
        _ready.add(name)


@st.composite
def bad(draw: Any) -> Bad:
    name = draw(st.sampled_from(NAMES))
    kind = draw(st.sampled_from(sorted(WRONG)))
    options, said = draw(WRONG[kind])
    if name in CANVASES and kind in READ_LEFT:
        name = "plain"
    if draw(st.integers(0, 9)) == 0:  # what is right beside it
        right = draw(good((name,)))
        options = {**right.options, **options}
        if kind in ("prompt", "lengths"):
            options = {
                k: v for k, v in options.items() if k == kind or k not in ("prompt", "lengths")
            }
    return Bad(name, options, tuple(said), inferred=kind in ("params", "decoder"))


numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.text(max_size=3),
    st.binary(max_size=3),
)
nested = st.recursive(numbers | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=6)
ASKED = (
    *sorted({*OFF, "eos", "stop", "stop_strings", "lengths"}),
    "ends",
    "top_log_probs",
    "prompt",
)


@st.composite
def strange(draw: Any) -> Strange:
    name = draw(st.sampled_from(ASKED))
    return Strange(draw(st.sampled_from(PROMPTED)), name, draw(nested | values.junk))


def inputs(
    names: tuple[str, ...] = NAMES, hypotheses: tuple[int, ...] = (1, 1, 1, 2)
) -> st.SearchStrategy:
    return mixed((5, bad()), (3, strange()), (2, good(names, hypotheses)))


SURFACE = Surface(
    name="generate",
    about="`generate` over plain, chain, tree and canvas decoders: prompts, budgets, every setting, stops, keys",
    inputs=inputs(),
    attempt=attempt,
    short=100,
    slow=1500,
    long=42_000,
    part=2000,
)
