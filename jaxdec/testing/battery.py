"""The conformance battery: what a decoder declares is what it is tested for.

A *factory* builds the decoder under test from two models that the battery supplies, a target and a drafter that
resembles it: `make(target, draft) -> Decoder`. Decoders that need no drafter ignore the second.

    for check in checks(make):
        check(make)

Each check raises `AssertionError`. The models are oracles (`jaxdec.testing.oracles`), for which results are equal bit
for bit in any batch, so every comparison is an equality; the one statistical check states its false-positive rate.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from jaxdec import decoding, generation
from jaxdec.decoding import Decoder, Exactness, Status
from jaxdec.model import Model, Order
from jaxdec.sampling import row_keys
from jaxdec.testing import oracles
from jaxdec.testing.statistics import g_test
from jaxdec.testing.twin import python_twin

Factory = Callable[[Model, Model], Decoder]

VOCAB = 7
PROMPTS = np.array([[1, 2, 3, 4, 1, 2], [5, 6, 5, 6, 0, 0], [0, 0, 0, 0, 0, 0], [3, 3, 3, 0, 0, 0]])
LENGTHS = np.array([6, 4, 1, 3])
BUDGET = np.array([32, 12, 25, 30])  # one bucket, so that few programs are compiled
FALSE_POSITIVE_RATE = 1e-6
"""Of the statistical check, for a decoder that is exact; seeds are fixed, so that it passes or fails for good."""

KNOBS: dict[str, dict[str, Any]] = {
    "greedy": dict(temperature=0.0),
    "sampled": dict(temperature=0.8),
    "each row its own": dict(temperature=[0.0, 0.5, 1.0, 1.7], top_p=[1.0, 0.8, 0.6, 0.95]),
    "filters": dict(temperature=0.5, top_k=5, top_p=0.8, min_p=0.02, epsilon=0.01),
    "penalties": dict(
        temperature=0.9, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.3
    ),
    "bias and bans": dict(logit_bias=np.linspace(-1, 1, VOCAB), banned=np.arange(VOCAB) == 2),
}
"""Settings that every decoder is run under."""

NEVER = VOCAB - 1
EVERYTHING: dict[str, Any] = dict(
    temperature=1.0,
    top_k=VOCAB,
    top_p=1.0,
    min_p=0.0,
    epsilon=0.0,
    repetition_penalty=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    logit_bias=np.zeros(VOCAB),
    banned=np.arange(VOCAB) == NEVER,
    eos=[NEVER],
    stop=[[NEVER, NEVER], [NEVER, NEVER, NEVER]],
)
"""Settings of all kinds and stops, which change nothing but that one token never comes. Checks put theirs in place.

A setting that is left out makes another program, and compiling programs is what takes the time.
"""


def pair(seed: int = 0, weight: float = 0.35) -> tuple[Model, dict[str, jax.Array]]:
    """A hash oracle and parameters for it (`target`) and for one that resembles it (`draft`)."""
    model, target = oracles.hash_oracle(VOCAB, seed=seed, scale=1.5)
    _, other = oracles.hash_oracle(VOCAB, seed=seed + 1, scale=1.5)
    return model, {"target": target, "draft": oracles.blend(target, other, weight)}


@dataclasses.dataclass(frozen=True)
class _Ordered:
    """A decoder that is tested on requests with an order of generation."""

    decoder: Decoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)


def ordered(make: Factory) -> Factory:
    """The same factory, tested on random visible sets and random fixed orders instead of causal prompts."""
    return lambda target, draft: _Ordered(make(target, draft))  # type: ignore[return-value]


def _plain(model: Model, like: Decoder) -> Decoder:
    """Plain decoding, on requests of the same kind."""
    plain = jaxdec.autoregressive(model)
    return _Ordered(plain) if isinstance(like, _Ordered) else plain  # type: ignore[return-value]


def _places(row: int, size: int, visible: int) -> np.ndarray:
    """The position of each rank of a row: a random visible set in ascending order, the rest in random order."""
    places = np.random.default_rng((row, size)).permutation(size)
    return np.concatenate([np.sort(places[:visible]), places[visible:]])


def _order(lengths: Any, budget: Any, rows: Any = None) -> Order:
    lengths = np.asarray(lengths)
    sizes = lengths + np.broadcast_to(budget, lengths.shape)
    places = np.zeros((len(lengths), sizes.max()), np.int32)
    for i, size in enumerate(sizes):
        row = i if rows is None else rows[i]
        places[i, :size] = _places(row, size, lengths[i])
    return Order(*(jnp.asarray(x, jnp.int32) for x in (places, lengths, sizes)))


def _with_order(decoder: Decoder, options: dict[str, Any], rows: Any = None) -> dict[str, Any]:
    """The options of a request, with an order where the decoder is tested on one."""
    if not isinstance(decoder, _Ordered) and not isinstance(
        getattr(decoder, "decoder", None), _Ordered
    ):
        return options
    lengths = options.get("lengths")
    if lengths is None:
        lengths = np.full(len(options["prompt"]), np.shape(options["prompt"])[1])
    return {**options, "order": _order(lengths, options["max_new_tokens"], rows)}


def _generate(decoder: Decoder, params: Any, rows: Any = None, **options: Any) -> generation.Result:
    given = dict(
        prompt=PROMPTS, lengths=LENGTHS, max_new_tokens=BUDGET, rng=jax.random.key(7), eos=()
    )
    return generation.generate(decoder, params, **_with_order(decoder, {**given, **options}, rows))


def _prepare(decoder: Decoder, params: Any, **options: Any) -> decoding.Request:
    return generation.prepare(decoder, params, **_with_order(decoder, options))


def _rows(result: generation.Result) -> list[list[int]]:
    tokens, lengths = np.asarray(result.tokens), np.asarray(result.lengths)
    return [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]


def _same(first: generation.Result, second: generation.Result, what: str) -> None:
    assert _rows(first) == _rows(second), f"{what}: other tokens"
    assert first.status == second.status, f"{what}: {first.status} and {second.status}"
    for name in ("log_probs", "raw_log_probs"):
        for row, length in enumerate(np.asarray(first.lengths)):
            one, two = (np.asarray(getattr(r, name))[row, :length] for r in (first, second))
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5, err_msg=f"{what}: {name}")


def check_declares_exactness(make: Factory) -> None:
    """The decoder states what it promises."""
    model, _ = pair()
    exactness = getattr(make(model, model), "exactness", None)
    assert isinstance(exactness, Exactness), "the decoder declares no exactness"


def check_token_identity(make: Factory) -> None:
    """The same tokens, log-probabilities and statuses as plain decoding with the same key, under all settings."""
    model, params = pair()
    decoder = make(model, model)
    plain = _plain(model, decoder)
    for name, knobs in KNOBS.items():
        options = knobs if knobs.keys() == {"temperature"} else {**EVERYTHING, **knobs}
        _same(_generate(decoder, params, **options), _generate(plain, params, **options), name)


def check_greedy_identity(make: Factory) -> None:
    """At temperature 0 the same tokens as plain decoding."""
    model, params = pair()
    decoder = make(model, model)
    plain = _plain(model, decoder)
    for knobs in (dict(temperature=0.0), dict(temperature=0.0, repetition_penalty=1.4)):
        options = {**EVERYTHING, **knobs}
        _same(
            _generate(decoder, params, **options), _generate(plain, params, **options), str(knobs)
        )


def check_python_twin(make: Factory) -> None:
    """Each row equals a Python loop with no cache, token for token."""
    model, params = pair()
    keys = row_keys(jax.random.key(7), len(PROMPTS))
    stop = [[1, 2], [4, 4, 0]]
    settings: list[dict[str, Any]] = [
        dict(temperature=0.0),
        dict(temperature=0.9, top_p=0.9, presence_penalty=0.3),
    ]
    decoder = make(model, model)
    places = np.asarray(_order(LENGTHS, BUDGET).places) if isinstance(decoder, _Ordered) else None
    for knobs in settings:
        ends = dict(eos=[6], stop=stop, banned=np.zeros(VOCAB, bool))
        result = _generate(decoder, params, **{**EVERYTHING, **ends, **knobs})
        for row, tokens in enumerate(_rows(result)):
            twin = python_twin(
                model,
                params["target"],
                PROMPTS[row, : LENGTHS[row]].tolist(),
                keys[row],
                max_new_tokens=int(BUDGET[row]),
                eos=[6],
                stop=stop,
                places=None if places is None else places[row],
                **knobs,
            )
            assert tokens == twin.tokens, f"row {row} under {knobs}: {tokens} and {twin.tokens}"
            assert result.status[row] == twin.status, f"row {row}: {result.status[row]}"
            start, end = LENGTHS[row], len(tokens)
            for name in ("log_probs", "raw_log_probs"):
                ours = np.asarray(getattr(result, name))[row, start:end]
                np.testing.assert_allclose(ours, getattr(twin, name), rtol=1e-4, atol=1e-4)


def check_row_alone(make: Factory) -> None:
    """A row of a ragged batch equals that row decoded alone with its key: neighbours and padding change nothing."""
    model, params = pair()
    decoder = make(model, model)
    keys = row_keys(jax.random.key(7), len(PROMPTS))
    temperature = np.array([0.0, 0.7, 1.0, 1.3])
    knobs = {**EVERYTHING, "frequency_penalty": 0.2}
    whole = _generate(decoder, params, **{**knobs, "temperature": temperature})
    for row, tokens in enumerate(_rows(whole)):
        alone = _generate(
            decoder,
            params,
            rows=[row],
            prompt=PROMPTS[row : row + 1, : LENGTHS[row]],
            lengths=None,
            max_new_tokens=int(BUDGET[row]),
            rng=keys[row : row + 1],
            **{**knobs, "temperature": temperature[row]},
        )
        assert _rows(alone)[0] == tokens, (
            f"row {row} alone: {_rows(alone)[0]}, in a batch: {tokens}"
        )
        for name in ("target_forwards", "proposed", "accepted"):
            one, many = getattr(alone.stats, name)[0], getattr(whole.stats, name)[row]
            assert int(one) == int(many), f"row {row}: {name} {one} alone, {many} in a batch"


def check_chunked(make: Factory) -> None:
    """A run cut into chunks of a few steps, and the stream, equal the whole run."""
    model, params = pair()
    decoder, rng = make(model, model), row_keys(jax.random.key(7), len(PROMPTS))
    stop = [[1, 2, 3], [NEVER, NEVER]]
    options: dict[str, Any] = {**EVERYTHING, "temperature": 0.8, "stop": stop}
    options |= dict(lengths=LENGTHS, max_new_tokens=BUDGET)
    start = lambda: decoding.init(
        decoder, params, _prepare(decoder, params, prompt=PROMPTS, **options)
    )
    whole = generation.result(*decoding.run(decoder, params, start(), rng))
    state, record = start(), None
    for steps in [1, 2, 3, 5] * 10:
        state, record = decoding.run(decoder, params, state, rng, steps, record)
    assert record is not None
    chunked = generation.result(state, record)
    _same(whole, chunked, "chunked")
    np.testing.assert_array_equal(whole.stats.target_forwards, chunked.stats.target_forwards)
    streamed: list[list[int]] = [[] for _ in PROMPTS]
    for _, info in decoding.stream(decoder, params, start(), rng):
        for row, count in enumerate(np.asarray(info.count)):
            streamed[row] += np.asarray(info.tokens)[row, :count].tolist()
    for row, tokens in enumerate(_rows(whole)):
        assert tokens[LENGTHS[row] :] == streamed[row], f"row {row} of the stream"


def check_stops_inside_chunks(make: Factory) -> None:
    """EOS and stop sequences end a row at their own token, wherever in a chunk they fall."""
    model, params = pair()
    # The drafter is the target itself: chunks are accepted whole, and stops fall inside them.
    params = {**params, "draft": params["target"]}
    decoder = make(model, model)
    free = _rows(_generate(decoder, params, **{**EVERYTHING, "temperature": 0.0}))
    new = free[0][LENGTHS[0] :]
    never = EVERYTHING["stop"]
    for place in range(1, 12):
        eos, stop = new[place], new[place - 1 : place + 1]
        for sequence, options, status in (
            ([eos], dict(eos=[eos], stop=never), Status.EOS),
            (stop, dict(eos=[NEVER], stop=[stop, never[1]]), Status.STOP_SEQUENCE),
        ):
            ended = _generate(decoder, params, **{**EVERYTHING, "temperature": 0.0, **options})
            n = len(sequence)
            ends = (end for end in range(n, len(new) + 1) if new[end - n : end] == sequence)
            expected = free[0][: LENGTHS[0] + next(ends)]
            assert _rows(ended)[0] == expected, f"{options}: {_rows(ended)[0]}, expected {expected}"
            assert ended.status[0] is status, f"{options}: {ended.status[0]}"


def check_broken_model(make: Factory) -> None:
    """A row whose model turns non-finite ends with `NONFINITE`, keeps what it had, and harms no other row."""
    model, params = pair()
    decoder = make(model, model)
    healthy = _generate(decoder, params, temperature=0.8)
    table = np.asarray(params["target"]).copy()
    table[::23] = np.nan
    broken = _generate(decoder, {**params, "target": jnp.asarray(table)}, temperature=0.8)
    hit = [status is Status.NONFINITE for status in broken.status]
    assert any(hit), "no row met a broken law"
    for row, tokens in enumerate(_rows(broken)):
        assert tokens[: LENGTHS[row]] == PROMPTS[row, : LENGTHS[row]].tolist()
        assert np.isfinite(np.asarray(broken.log_probs)[row, : len(tokens)]).all(), f"row {row}"
        if decoder.exactness is Exactness.TOKEN_IDENTICAL:
            assert _rows(healthy)[row][: len(tokens)] == tokens, f"row {row}"


def check_full_cache(make: Factory) -> None:
    """A row that runs out of room ends with `CACHE_FULL` and keeps a prefix of the unbounded output."""
    model, params = pair()
    decoder = make(model, model)
    options: dict[str, Any] = dict(lengths=LENGTHS, max_new_tokens=BUDGET, eos=(), temperature=0.0)
    request = _prepare(decoder, params, prompt=PROMPTS, **options)
    whole = _rows(_generate(decoder, params, temperature=0.0))
    small = dataclasses.replace(request, capacity=request.prompt.shape[1] + 2)
    state = decoding.init(decoder, params, small)
    result = generation.result(*decoding.run(decoder, params, state, jax.random.key(7)))
    for row, tokens in enumerate(_rows(result)):
        assert whole[row][: len(tokens)] == tokens, f"row {row}"
        complete = len(tokens) == len(whole[row])
        expected = Status.LENGTH if complete else Status.CACHE_FULL
        assert result.status[row] is expected, f"row {row}: {result.status[row]}"
    assert Status.CACHE_FULL in result.status, "no row ran out of room"


@dataclasses.dataclass(frozen=True)
class _Counted:
    """A decoder whose step raises when it is traced more than once."""

    decoder: Decoder
    traced: Callable[..., Any]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)

    def step(self, params, state, rng):
        return self.traced(params, state, rng)


def check_compiled_once(make: Factory) -> None:
    """A sweep over every traced setting and over prompt lengths in a bucket traces the step once."""
    model, params = pair()
    decoder = make(model, model)
    again = make(model, model)
    assert decoder == again and hash(decoder) == hash(again), (
        "two decoders with equal parts differ, so that each would be compiled anew"
    )
    chex.clear_trace_counter()
    counted = _Counted(decoder, chex.assert_max_traces(decoder.step, n=1))
    for knob, eos, budget in [(0.0, 6, 20), (0.5, 5, 32), (1.0, 0, 5)]:
        for width in (6, 3, 1):
            _generate(
                counted,  # type: ignore[arg-type]
                params,
                prompt=PROMPTS[:, :width],
                lengths=np.minimum(LENGTHS, width),
                max_new_tokens=budget,
                eos=[eos],
                stop=[[1, eos]],
                temperature=2 * knob,
                top_k=int(7 * knob),
                top_p=1 - knob / 2,
                min_p=knob / 50,
                typical=1 - knob / 4,
                epsilon=knob / 100,
                top_h=1 - knob / 4,
                repetition_penalty=1 + knob,
                presence_penalty=knob,
                frequency_penalty=-knob / 5,
                logit_bias=np.full(VOCAB, knob),
                banned=np.arange(VOCAB) == int(4 * knob),
            )


def check_law(make: Factory, draws: int = 100_000) -> None:
    """The law of three tokens equals that of a known joint table (G-test of `draws` rows)."""
    model, target = oracles.joint_oracle(3, 4, seed=3)
    _, draft = oracles.joint_oracle(3, 4, seed=4)
    # The table of another law, with enough of the target in it that every number of drafts is accepted at times.
    params = {"target": target, "draft": 0.5 * target + 0.5 * draft}
    decoder = make(model, model)
    joint = np.asarray(target, np.float64)
    places = np.arange(4)
    if isinstance(decoder, _Ordered):
        places = _places(0, 4, 1)
        assert not np.array_equal(places, np.arange(4))
    joint = joint.transpose(places)[1]  # by rank, given the token of rank 0
    counts = np.zeros((3, 3, 3))
    batch = 20_000
    for chunk in range(draws // batch):
        request = _prepare(
            decoder,
            params,
            prompt=np.full((batch, 1), 1),
            lengths=np.ones(batch, int),
            max_new_tokens=3,
            eos=(),
            temperature=1.0,
        )
        if request.order is not None:
            same = jnp.broadcast_to(jnp.asarray(places, jnp.int32), (batch, 4))
            request = dataclasses.replace(
                request, order=dataclasses.replace(request.order, places=same)
            )
        # A hundred thousand rows of four tokens: cut the buckets to the bone.
        request = dataclasses.replace(
            request, prompt=request.prompt[:, :1], capacity=4 + decoder.width
        )
        state = decoding.init(decoder, params, request)
        state, _ = decoding.run(decoder, params, state, jax.random.key(chunk))
        tokens = np.asarray(state.rows.tokens)[:, 1:4]
        assert (np.asarray(state.rows.status) == Status.LENGTH).all()
        np.add.at(counts, tuple(tokens.T), 1)
    p = g_test(counts.reshape(-1), joint.reshape(-1) / joint.sum())
    assert p > FALSE_POSITIVE_RATE, (
        f"the law of {draws} draws differs from the target's: p = {p:.2e}"
    )


def check_different_keys(make: Factory) -> None:
    """Other keys give other samples; the same key the same."""
    model, params = pair()
    decoder = make(model, model)
    first, again, other = (
        _rows(_generate(decoder, params, rng=jax.random.key(seed), temperature=1.0))
        for seed in (1, 1, 2)
    )
    assert first == again, "one key gave two results"
    assert all(a != b for a, b in zip(first, other, strict=True)), "two keys gave one result"


ALWAYS = (
    check_declares_exactness,
    check_row_alone,
    check_chunked,
    check_stops_inside_chunks,
    check_broken_model,
    check_full_cache,
    check_compiled_once,
    check_different_keys,
)
IMPLIED = {
    Exactness.TOKEN_IDENTICAL: (check_token_identity, check_python_twin),
    Exactness.DISTRIBUTION_IDENTICAL: (check_greedy_identity, check_law),
    Exactness.APPROXIMATE: (),
    Exactness.HEURISTIC: (),
}


def checks(make: Factory) -> tuple[Callable[[Factory], None], ...]:
    """The checks that the factory's decoder must pass: those for all, and those that its declaration implies."""
    model, _ = pair()
    decoder = make(model, model)
    exactness = getattr(decoder, "exactness", None)
    always: tuple[Callable[[Factory], None], ...] = ALWAYS
    if getattr(decoder, "fills_canvas", False) and exactness is not Exactness.TOKEN_IDENTICAL:
        # How much of a canvas is masked is part of what such a policy goes by: a smaller one is another request.
        always = tuple(check for check in ALWAYS if check is not check_full_cache)
    return always + (IMPLIED[exactness] if isinstance(exactness, Exactness) else ())
