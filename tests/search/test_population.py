"""Populations: segments and moves change no law, and a rule's decision is what happens."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import decoding, search
from jaxdec.decoding import Status
from tests.search.rows import LENGTHS, MODEL, PARAMS, PLAIN, RATIO, VOCAB, WALK, rows, texts
from tests.search.rows import PROMPTS as PROMPT
from tests.search.rows import generate as by_default

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(5)
OPTIONS = dict(
    lengths=LENGTHS,
    max_new_tokens=[13, 5],
    temperature=[1.0, 0.8],
    logit_bias=np.linspace(0, 1, 2 * VOCAB).reshape(2, VOCAB),
    eos=[0],
    stop=[[1, 1]],
    hypotheses=3,
)


@dataclasses.dataclass(frozen=True)
class Stay(search.Rule):
    """Everybody goes on."""

    def decide(self, params, boundary):
        return search.Decision.stay(boundary)


@dataclasses.dataclass(frozen=True)
class Turn(search.Rule):
    """Every hypothesis takes the past of the next one, all three of them at odd boundaries."""

    def decide(self, params, boundary):
        here = boundary.here
        odd = boundary.by_prompt(boundary.pool.boundaries) % 2 == 1
        source = jnp.where(odd, (here + 1) % boundary.hypotheses, here)
        return dataclasses.replace(search.Decision.stay(boundary), source=source)


def generate(decoder, **more):
    return jaxdec.generate(decoder, PARAMS, PROMPT, rng=KEY, **{**OPTIONS, **more})


SEGMENTS = {
    "every token": search.every_token(),
    "of 4": search.of_length(4),
    "delimiters": search.until([2, [3, 5]]),
    "delimiters, at most 3": search.until([2, [3, 5]], most=3),
}


@pytest.mark.parametrize(
    "inner, segment", [("plain", "every token"), *(("walk", name) for name in SEGMENTS)]
)
def test_segments_change_nothing(segment, inner):
    decoder = {"plain": PLAIN, "walk": WALK}[inner]
    alone = generate(PLAIN)
    found = generate(search.population(decoder, segment=SEGMENTS[segment], rule=Stay()))
    assert texts(found) == texts(alone)
    assert found.status == alone.status
    assert {Status.EOS, Status.STOP_SEQUENCE} <= set(found.status)
    new = np.arange(alone.log_probs.shape[1]) < np.asarray(alone.lengths)[:, None]
    np.testing.assert_allclose(found.log_probs * new, alone.log_probs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.pool.log_probs, alone.log_probs.sum(1), rtol=1e-4, atol=1e-5)
    assert (np.asarray(found.pool.moves) == 0).all()


def expected_segments(text, most, singles, pairs):
    """Segments of the new tokens of one row."""
    found, size = 0, 0
    for at, token in enumerate(text):
        size += 1
        pair = tuple(text[at - 1 : at + 1]) in pairs and size >= 1 and at >= 1
        if token in singles or pair or size == most:
            found, size = found + 1, 0
    return found + (size > 0)


@pytest.mark.parametrize("segment", SEGMENTS)
def test_segments_are_counted(segment):
    rule = SEGMENTS[segment]
    singles = {d[0] for d in rule.delimiters if len(d) == 1}
    pairs = {d for d in rule.delimiters if len(d) == 2}
    found = generate(search.population(WALK, segment=rule, rule=Stay()))
    for row, text in enumerate(texts(found)):
        new = text[int(found.prompt_lengths[row]) :]
        wanted = expected_segments(new, rule.most or 99, singles, pairs)
        assert int(found.pool.segments[row]) == wanted, new


def turned(rng, segment):
    """What `Turn` does, by hand."""
    found = rows(rng, 3)
    for hypotheses in found:
        boundary = 0
        while not all(row.over for row in hypotheses):
            for row in hypotheses:
                row.go(most=segment)
            if boundary % 2 == 1 and not all(row.over for row in hypotheses):
                before = [dataclasses.replace(row) for row in hypotheses]
                for h, row in enumerate(hypotheses):
                    row.take(before[(h + 1) % 3])
            boundary += 1
    return [row for hypotheses in found for row in hypotheses]


def test_rows_that_move_draw_with_keys_of_their_own():
    decoder = search.population(WALK, segment=search.of_length(3), rule=Turn())
    found = by_default(decoder, 3, KEY)
    wanted = turned(KEY, 3)
    assert texts(found) == [row.text for row in wanted]
    np.testing.assert_array_equal(found.pool.moves, [row.moves for row in wanted])
    assert max(row.moves for row in wanted) > 1


@pytest.mark.parametrize(
    "inner",
    [
        pytest.param(PLAIN, marks=pytest.mark.slow, id="plain"),
        pytest.param(WALK, id="walk"),
        pytest.param(RATIO, marks=pytest.mark.slow, id="ratio"),
    ],
)
def test_prompts_know_nothing_of_their_neighbours_and_runs_nothing_of_chunks(inner):
    reward = search.scorers.of_tokens(_sum_of_tokens)
    decoder = search.particle_filter(inner, reward, segment=search.until([2], most=4))
    options = {**OPTIONS, "max_new_tokens": [16, 14], "eos": ()}
    whole = generate(decoder, reward_temperature=[0.5, 2.0], **options)
    request = jaxdec.prepare(decoder, PARAMS, PROMPT, reward_temperature=[0.5, 2.0], **options)
    state, record = decoding.init(decoder, PARAMS, request), None
    for steps in (1, 2, 3, None):
        state, record = decoding.run(decoder, PARAMS, state, KEY, steps, record)
    for x, y in zip(
        *map(jax.tree.leaves, (whole, jaxdec.generation.result(state, record))), strict=True
    ):
        np.testing.assert_array_equal(x, y)
    assert np.asarray(whole.pool.moves).max() > 0
    keys = jaxdec.sampling.row_keys(KEY, 6, 3)
    one = {k: v[1:] if np.ndim(v) and k not in ("eos", "stop") else v for k, v in options.items()}
    alone = jaxdec.generate(
        decoder, PARAMS, PROMPT[1:], rng=keys[3:], reward_temperature=2.0, **one
    )
    assert texts(alone) == texts(whole)[3:]
    np.testing.assert_array_equal(alone.pool.log_weights, whole.pool.log_weights[3:])


def _sum_of_tokens(tokens, prompt_length, length):
    return tokens.sum(1) / 2


def test_nothing_compiles_for_a_knob():
    from jaxdec.testing.battery.subject import Counted

    decoder = Counted(search.smc(PLAIN, potential=search.scorers.of_tokens(_sum_of_tokens)))
    for threshold in (0.0, 0.3, 1.0):
        generate(decoder, ess_threshold=threshold, temperature=1 + threshold)
    assert decoder.traced == [1]


def test_a_part_that_does_not_serve_is_refused():
    stay = functools.partial(search.population, PLAIN, rule=Stay())
    with pytest.raises(ValueError, match="tokens must be at least 1, got 0"):
        search.of_length(0)
    with pytest.raises(ValueError, match="delimiters must be tokens"):
        search.until([])
    with pytest.raises(ValueError, match="outside the vocabulary of 6"):
        generate(stay(segment=search.until([9])))
    with pytest.raises(ValueError, match="scorer must be a Scorer"):
        stay(segment=search.whole(), scorer=_sum_of_tokens)
    with pytest.raises(ValueError, match="continues prompts, got Denoise, which fills a canvas"):
        search.population(jaxdec.denoise(MODEL), segment=search.whole())
    with pytest.raises(TypeError, match="abstract"):
        search.Rule()
    with pytest.raises(ValueError, match="scheme must be one of"):
        search.smc(PLAIN, scheme="best")
