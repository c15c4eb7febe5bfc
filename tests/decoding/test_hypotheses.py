"""Several hypotheses a prompt: keys, rows that take the past of others, and the records that go with them."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import decoding
from jaxdec.cache import Cache
from jaxdec.decoding import Status
from jaxdec.model import Inputs
from jaxdec.sampling import Purpose, key_at, row_keys
from jaxdec.testing import oracles
from jaxdec.testing.battery.cases import Letters
from tests.decoding.moving import Beam, Resampled

pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB = 6
MODEL, TARGET = oracles.hash_oracle(VOCAB, seed=3)
PARAMS = {
    "target": TARGET,
    "draft": oracles.blend(TARGET, oracles.hash_oracle(VOCAB, seed=4)[1], 0.3),
}
PROMPT = np.array([[1, 2, 3], [4, 5, 0]])
LENGTHS = np.array([3, 2])
KEY = jax.random.key(5)
CHAIN = jaxdec.drafters.model(MODEL, length=3)
DECODERS = {
    "plain": jaxdec.autoregressive(MODEL),
    "walk": jaxdec.speculative(MODEL, drafter=CHAIN),
    "token ratio": jaxdec.speculative(MODEL, drafter=CHAIN, verifier=jaxdec.verifiers.TokenRatio()),
}


def texts(result):
    rows = zip(np.asarray(result.tokens), np.asarray(result.lengths), strict=True)
    return [row[:length].tolist() for row, length in rows]


def test_keys():
    own = row_keys(KEY, 2)
    keys = row_keys(KEY, 6, 3).reshape(2, 3)
    data = jax.random.key_data
    np.testing.assert_array_equal(data(keys[:, 0]), data(own))
    for h in (1, 2):
        folded = key_at(own, Purpose.HYPOTHESIS, jnp.array([h, h]))
        np.testing.assert_array_equal(data(keys[:, h]), data(folded))
    assert len({tuple(np.asarray(k).tolist()) for k in data(keys.reshape(-1))}) == 6
    # Keys of the caller: one a prompt is folded on, one a row is left alone.
    np.testing.assert_array_equal(data(row_keys(own, 6, 3)), data(keys.reshape(-1)))
    np.testing.assert_array_equal(data(row_keys(keys.reshape(-1), 6, 3)), data(keys.reshape(-1)))
    with pytest.raises(ValueError, match=r"2 keys \(one a prompt\) or 6 \(one a row\)"):
        row_keys(jax.random.split(KEY, 3), 6, 3)


@pytest.mark.parametrize("name", DECODERS)
def test_the_first_hypothesis_is_the_prompt_alone(name):
    decode = functools.partial(
        jaxdec.generate,
        DECODERS[name],
        PARAMS,
        PROMPT,
        rng=KEY,
        lengths=LENGTHS,
        max_new_tokens=[9, 7],
        temperature=[1.0, 0.8],
        presence_penalty=[0.0, 0.5],
        logit_bias=np.linspace(0, 1, 2 * VOCAB).reshape(2, VOCAB),
        eos=[0],
        stop=[[1, 1]],
    )
    alone, many = texts(decode()), texts(decode(hypotheses=3))
    if name == "walk":  # each as a prompt of its own with the same key
        again = {
            k: np.repeat(v, 3, 0)
            for k, v in decode.keywords.items()
            if np.ndim(v) and k not in ("eos", "stop")
        }
        own = {**decode.keywords, **again, "rng": row_keys(KEY, 6, 3)}
        assert (
            texts(jaxdec.generate(DECODERS[name], PARAMS, np.repeat(PROMPT, 3, 0), **own)) == many
        )
    assert many[::3] == alone
    assert len({tuple(row) for row in many}) > 4
    for h in (1, 2):
        assert [row[:n] for row, n in zip(many[h::3], LENGTHS, strict=True)] == [
            row[:n] for row, n in zip(alone, LENGTHS, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A forward that notes how many rows it is asked for."""

    forward: Callable
    rows: list = dataclasses.field(default_factory=list, hash=False, compare=False)

    def __call__(self, params, inputs, cache):
        self.rows.append(inputs.tokens.shape[0])
        return self.forward(params, inputs, cache)


def test_a_prompt_is_read_once():
    forward = Recorded(MODEL.forward)
    model = dataclasses.replace(MODEL, forward=forward)
    decoder = jaxdec.speculative(model, drafter=jaxdec.drafters.model(model, length=2))
    request = jaxdec.prepare(decoder, PARAMS, PROMPT, lengths=LENGTHS, hypotheses=3)
    forward.rows.clear()
    state = jax.eval_shape(functools.partial(decoder.init, PARAMS), request)
    assert forward.rows == [2, 2]  # the target and the draft model
    assert [cache.length.shape for cache in caches(state)] == [(6,), (6,)]


def test_gaps_have_hypotheses():
    visible = np.array([[1, 0, 1, 0, 0, 1], [1, 0, 1, 0, 1, 1]], bool)
    tokens = np.arange(12).reshape(2, 6) % VOCAB
    fill = functools.partial(jaxdec.infill, DECODERS["plain"], PARAMS, tokens, visible, rng=KEY)
    alone, many = fill(sizes=[6, 4]), fill(sizes=[6, 4], hypotheses=2)
    np.testing.assert_array_equal(many.tokens[::2], alone.tokens)
    np.testing.assert_array_equal(many.ranks[1::2], alone.ranks)
    assert (many.tokens[1::2] != alone.tokens).any()


@jax.jit
def law(tokens, length):
    """The model's law after the first tokens of one sequence, with no cache."""
    inputs = Inputs.causal(tokens[None], valid=(jnp.arange(len(tokens)) < length)[None])
    return jax.nn.log_softmax(MODEL(TARGET, inputs, None).logits[0])[length - 1]


def beam_search(prompt, beams, budget, eos):
    """`(score, tokens)` of the best hypotheses, best first, in plain Python."""
    held = [(np.float32(0), list(prompt), True)]
    while any(running for *_, running in held):
        found = []
        for score, tokens, running in held:
            if not running:
                found.append((score, tokens, False))
                continue
            padded = np.zeros(16, np.int32)
            padded[: len(tokens)] = tokens
            for token, log_prob in enumerate(np.asarray(law(padded, len(tokens)))):
                longer = [*tokens, token]
                more = token != eos and len(longer) < len(prompt) + budget
                found.append((np.float32(score + log_prob), longer, more))
        held = sorted(found, key=lambda one: -one[0])[:beams]
    return [(score, tokens) for score, tokens, _ in held]


@pytest.mark.parametrize("beams", [1, 4])
def test_beam_search_on_the_contract(beams):
    budget, eos = [7, 5], 0
    options = dict(lengths=LENGTHS, max_new_tokens=budget, eos=[eos], hypotheses=beams)
    decoder = Beam(MODEL)
    result = jaxdec.generate(decoder, PARAMS, PROMPT, rng=KEY, **options)
    ours, moved = texts(result), 0
    for prompt in range(2):
        expected = beam_search(PROMPT[prompt, : LENGTHS[prompt]], beams, budget[prompt], eos)
        rows = slice(prompt * beams, (prompt + 1) * beams)
        assert ours[rows] == [tokens for _, tokens in expected]
        np.testing.assert_allclose(
            np.asarray(result.log_probs)[rows].sum(1), [score for score, _ in expected], rtol=1e-5
        )
    assert Status.EOS in result.status and Status.LENGTH in result.status
    request = jaxdec.prepare(decoder, PARAMS, PROMPT, **options)
    scores = None
    for _, info in decoding.stream(decoder, PARAMS, decoding.init(decoder, PARAMS, request), KEY):
        moved += int((np.asarray(info.source) != np.arange(2 * beams)).sum())
        scores = info.own["scores"]
    assert (moved > 0) == (beams > 1)
    np.testing.assert_allclose(scores, np.asarray(result.log_probs).sum(1), rtol=1e-5)


def rows_by_hand(decoder, request, keys):
    """The same as `run(Resampled(decoder))`, each row a batch of its own that Python moves."""
    batch = len(keys)
    alone = dataclasses.replace(request, hypotheses=1)
    of_row = lambda b: decoding.by_row(alone, lambda x: x[b : b + 1], lambda stops: stops)
    states = [decoding.init(decoder, PARAMS, of_row(b)) for b in range(batch)]
    texts = [[] for _ in range(batch)]
    totals = np.zeros((batch, 3), int)
    step = jax.jit(decoder.step)
    source_of = jax.jit(Resampled(decoder).source, static_argnums=2)
    moved, number = 0, 0
    while any(bool(state.rows.running.any()) for state in states):
        running = jnp.concatenate([state.rows.running for state in states])
        step_of = jnp.full(batch, number)
        source = np.asarray(source_of(step_of, running, request.hypotheses, keys)).tolist()
        moved += sum(texts[b] != texts[s] for b, s in enumerate(source))
        states, texts = [states[s] for s in source], [list(texts[s]) for s in source]
        totals = totals[source]
        for b in range(batch):
            states[b], info = step(PARAMS, states[b], keys[b : b + 1])
            count = int(info.count[0])
            columns = (info.tokens, info.log_probs, info.raw_log_probs, info.drafted, info.steps)
            texts[b] += list(
                zip(*(np.asarray(c)[0, :count].tolist() for c in columns), strict=True)
            )
            totals[b] += [int(x[0]) for x in (info.target_forwards, info.proposed, info.accepted)]
        number += 1
    assert moved > 2
    return states, texts, totals


def caches(state):
    """The target's, and the draft model's if there is one."""
    is_cache = lambda node: isinstance(node, Cache)
    return [node for node in jax.tree.leaves(state, is_leaf=is_cache) if is_cache(node)]


def slots(array, length):
    """The slots in use of keys and values `[H, S, D]`, of spans `[S, 2]` or of positions `[S]`."""
    return np.asarray(array)[:, :length] if array.ndim == 3 else np.asarray(array)[:length]


@pytest.mark.parametrize("name", DECODERS)
def test_rows_that_move_take_everything_along(name):
    decoder, beams = DECODERS[name], 3
    moving = Resampled(decoder)
    request = jaxdec.prepare(
        moving,
        PARAMS,
        PROMPT,
        lengths=LENGTHS,
        max_new_tokens=[14, 11],
        temperature=1.0,
        frequency_penalty=0.3,
        logit_bias=np.where(np.arange(VOCAB) == 0, -3.0, 0.0),
        eos=[0],
        stop_strings=[["babab"], ["abbaab"]],
        tokenizer=Letters(),
        hypotheses=beams,
    )
    keys = row_keys(KEY, 6, beams)
    state, record = None, None
    for steps in (3, None):  # a run that is continued moves its record too
        state = state or decoding.init(moving, PARAMS, request)
        state, record = decoding.run(moving, PARAMS, state, KEY, steps, record)
    result = jaxdec.generation.result(state, record)
    assert Status.STOP_SEQUENCE in result.status
    states, texts, totals = rows_by_hand(decoder, request, keys)
    columns = [
        np.asarray(x)
        for x in (
            result.tokens,
            result.log_probs,
            result.raw_log_probs,
            result.drafted,
            result.steps,
        )
    ]
    assert len(caches(state)) == (1 if name == "plain" else 2)
    for row in range(6):
        start, end = int(result.prompt_lengths[row]), int(result.lengths[row])
        ours = list(zip(*(c[row, start:end].tolist() for c in columns), strict=True))
        assert [line[0] for line in ours] == [line[0] for line in texts[row]]
        np.testing.assert_allclose(ours, texts[row], rtol=1e-5, atol=1e-5)
        assert result.status[row] == int(states[row].rows.status[0])
        for ours, alone in zip(caches(state), caches(states[row]), strict=True):
            length = int(ours.length[row])
            assert length == int(alone.length[0])
            for x, y in zip(*map(jax.tree.leaves, (ours.read(0), alone.read(0))), strict=True):
                np.testing.assert_array_equal(slots(x[row], length), slots(y[0], length))
        np.testing.assert_array_equal(
            [
                result.stats.target_forwards[row],
                result.stats.proposed[row],
                result.stats.accepted[row],
            ],
            totals[row],
        )
