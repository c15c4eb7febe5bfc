"""`jaxdec.infill`: sequences, visible sets, sizes and orders, good and bad, over three decoders of any subset."""

import dataclasses
from typing import Any

import numpy as np
from hypothesis import strategies as st

import jaxdec
from jaxdec.testing.battery.cases import NEVER, READ_LEFT, Letters
from tests.fuzz import generating, subjects, values, wrong_arguments
from tests.fuzz.subjects import FILLING, Bad, Strange, V
from tests.fuzz.surface import TAKEN, Surface, mixed, refused, tried
from tests.fuzz.values import BATCH, made

LENGTH = 9
PLAIN: dict[str, Any] = dict(
    tokens=np.arange(BATCH * LENGTH).reshape(BATCH, LENGTH) % (V - 1),
    visible=np.arange(LENGTH) % np.array([[2], [3], [4]]) == 0,
    sizes=[LENGTH] * BATCH,
    rng=(1, 2, 3),
    eos=(NEVER, NEVER),
    stop=([NEVER] * 3, [NEVER] * 3),
    stop_strings=("~",),
    tokenizer=Letters(),
    top_log_probs=2,
)
KNOBS = {name: each for name, each in generating.KNOBS.items() if name not in READ_LEFT}
KNOBS |= {name: generating.ARGUMENTS[name] for name in ("rng", "eos", "stop", "stop_strings")}
OFF = {name: value for name, value in generating.off("plain").items() if name not in READ_LEFT}


@dataclasses.dataclass(frozen=True)
class Good:
    """A call that is right, and the row that is filled alone as well."""

    decoder: str
    options: dict[str, Any]
    row: int


@st.composite
def gaps(draw: Any) -> dict[str, Any]:
    """Sequences with gaps, and perhaps an order of their own; what stands in a gap or behind is anything."""
    sizes = draw(generating.rows(st.integers(2, LENGTH)))
    visible = np.zeros((BATCH, LENGTH), bool)
    ranks = np.full((BATCH, LENGTH), draw(st.sampled_from([-1, 0, 99])))
    for row, size in enumerate(sizes):
        order = draw(st.permutations(range(size)))
        shown = draw(st.integers(1, size - 1))
        visible[row, order[:shown]] = True
        ranks[row, order] = np.arange(size)
    flat = draw(st.lists(generating.token, min_size=visible.size, max_size=visible.size))
    filler = draw(st.sampled_from([0, -1, V, 2**31 - 1]))
    found = dict(
        tokens=np.where(visible, np.reshape(flat, visible.shape), filler),
        visible=visible | (np.arange(LENGTH) >= np.array(sizes)[:, None]),
        sizes=sizes,
    )
    return {**found, "ranks": ranks} if draw(st.booleans()) else found


@st.composite
def good(draw: Any, names: tuple[str, ...] = FILLING) -> Good:
    chosen = draw(st.lists(st.sampled_from(sorted(KNOBS)), max_size=6, unique=True))
    options = {name: draw(KNOBS[name]) for name in chosen} | draw(gaps())
    return Good(draw(st.sampled_from(names)), options, draw(st.integers(0, BATCH - 1)))


def fill(name: str, options: dict[str, Any]) -> Any:
    given = {**PLAIN, **OFF, **options}
    tokens, visible = given.pop("tokens"), given.pop("visible")
    decoder = given.pop("decoder", subjects.decoder(name))
    params = given.pop("params", subjects.PARAMS)
    return jaxdec.infill(decoder, params, tokens, visible, **given)


def alone(options: dict[str, Any], row: int) -> dict[str, Any]:
    own = ("tokens", "visible", "sizes", "ranks")
    shared = {name: value for name, value in options.items() if name not in own}
    found = generating.alone({**shared, "prompt": PLAIN["tokens"]}, row)
    found.pop("prompt")
    given = {**PLAIN, **options}
    size = given["sizes"][row]
    cut = {
        name: np.asarray(given[name])[row : row + 1, :size]
        for name in own
        if name in given and name != "sizes"
    }
    return {**found, **cut, "sizes": [size]}


_ready: set[str] = set()


def ready(name: str) -> None:
    """Asks a network for its shapes, which is done once."""
    if name not in _ready:
        given = {key: value for key, value in PLAIN.items() if key != "rng"}
        tokens, visible = given.pop("tokens"), given.pop("visible")
        jaxdec.prepare_infill(subjects.decoder(name), subjects.PARAMS, tokens, visible, **given)
        _ready.add(name)


def attempt(given: Good | Bad | Strange) -> str:
    if isinstance(given, Good):
        whole = fill(given.decoder, given.options)
        single = fill(given.decoder, alone(given.options, given.row))
        subjects.same(whole, slice(given.row, given.row + 1), single)
        return TAKEN
    if isinstance(given, Bad):
        ready(given.decoder)
        options = {name: made(value) for name, value in given.options.items()}
        return refused(lambda: fill(given.decoder, options), *given.words, inferred=given.inferred)
    ready(given.decoder)
    options = {**PLAIN, given.name: made(given.value)}
    options.pop("rng")
    tokens, visible = options.pop("tokens"), options.pop("visible")
    call = lambda: jaxdec.prepare_infill(
        subjects.decoder(given.decoder), subjects.PARAMS, tokens, visible, **options
    )
    return tried(call)


ranks = np.tile(np.arange(LENGTH), (BATCH, 1))
shown = np.tile(np.arange(LENGTH) < 3, (BATCH, 1))
SHARED = ("temperature", "top_k", "top_p", "logit_bias", "forced_prefix", "eos", "stop", "rng", "hypotheses",
          "top_log_probs", "tokenizer", "cache", "placement", "params", "decoder",
          "a setting that there is not")  # fmt: skip
these = wrong_arguments.these
too_few_or_many = st.integers(-99, 0) | st.integers(LENGTH + 1, 2**31 - 1)
WRONG: dict[str, st.SearchStrategy] = {
    **{name: wrong_arguments.WRONG[name] for name in SHARED},
    "tokens": these("tokens", [[1, 2], "ab", [[1.0] * LENGTH] * BATCH, [[True] * LENGTH] * BATCH, None])
    | these("tokens", [np.zeros((3, 0), int)])
    | these("tokens", values.junk)
    | these("tokens", [[[1], [2, 3]], np.zeros((3, 9, 1), int), np.zeros((2, LENGTH), int)], ""),
    "a token that is none": wrong_arguments.strange_token.map(
        lambda token: ({"tokens": [[token] * LENGTH] * BATCH}, ("outside the vocabulary",))
    ).filter(lambda pair: abs(pair[0]["tokens"][0][0]) < 2**62),
    "visible": these("visible", [shown * 1, shown[:2], shown[0], None, 5, [[True], [False, True]], shown[:, :4]])
    | these("visible", values.junk)
    | these("visible", [np.ones_like(shown), np.zeros_like(shown)], "row 0"),
    "sizes": these("sizes", [[1, 2], 5, [9.0] * 3, [True] * 3, "abc", [[9]] * 3])
    | these("sizes", values.junk)
    | these("sizes", too_few_or_many.map(lambda n: [LENGTH, n, LENGTH]), "row 1"),
    "ranks": these("ranks", [ranks * 1.0, ranks[:2], 5, ranks == 1, [[0], [1, 2]], "abc"])
    | these("ranks", values.junk)
    | these("ranks", [ranks * 0, ranks - 1, ranks + 1], "ranks of row 0")
    | st.just(({"ranks": ranks[:, ::-1], "visible": shown}, ("is visible but has rank",))),
}  # fmt: skip


@st.composite
def bad(draw: Any) -> Bad:
    kind = draw(st.sampled_from(sorted(WRONG)))
    options, said = draw(WRONG[kind])
    name = draw(st.sampled_from(FILLING))
    return Bad(name, options, tuple(said), kind in ("params", "decoder"))


strange = st.builds(
    Strange,
    st.just("in order"),
    st.sampled_from(["tokens", "visible", "sizes", "ranks", "temperature", "logit_bias", "eos"]),
    generating.nested | values.junk,
)


def inputs(names: tuple[str, ...] = FILLING) -> st.SearchStrategy:
    return mixed((6, bad()), (2, strange), (2, good(names)))


SURFACE = Surface(
    name="infill",
    about="`infill` over three decoders of any subset: sequences, visible sets, sizes, orders, settings, keys",
    inputs=inputs(),
    attempt=attempt,
    short=60,
    slow=800,
    long=21_000,
    part=1000,
)
