"""Heads and EAGLE draft from the right states: whatever their weights, the tokens are those of plain decoding."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec.decoding import init, stream
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import HeadsConfig, Transformer, TransformerConfig, build_heads
from jaxdec.speculative import Context, growth

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, WIDTH = 6, 8
CONFIG = TransformerConfig(
    vocab_size=V, width=WIDTH, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=12
)
PROMPT = np.array([[1, 2, 3, 4, 5], [4, 0, 0, 0, 0], [2, 2, 0, 0, 0]])
LENGTHS = np.array([5, 1, 2])
KINDS = ("medusa", "hydra", "eagle")


@functools.cache
def target():
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    return model, jax.tree.map(lambda x: 3 * x, params)


@functools.cache
def drafting(kind, rule=None):
    """A decoder with a drafter of random weights, and the parameters of both."""
    heads, params = build_heads(kind, CONFIG if kind == "eagle" else HeadsConfig(V, WIDTH, 3))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype("f"), params)
    make = jaxdec.drafters.eagle if kind == "eagle" else jaxdec.drafters.heads
    rule = growth.best_first(7, 3, width=2, siblings=3) if rule is None else rule
    decoder = jaxdec.speculative(target()[0], drafter=make(heads, growth=rule))
    return decoder, {"target": target()[1], "draft": params}


def decode(decoder, params, rows=slice(None), **options):
    keys = jax.random.split(jax.random.key(3), 3)[rows]
    options = {"max_new_tokens": 20, "temperature": 0.9, **options}
    return jaxdec.generate(
        decoder, params, PROMPT[rows], lengths=LENGTHS[rows], rng=keys, **options
    )


def rows_of(result):
    return [np.asarray(r)[:n].tolist() for r, n in zip(result.tokens, result.lengths, strict=True)]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_plain_decoding(kind, temperature):
    plain = decode(
        jaxdec.autoregressive(target()[0]), {"target": target()[1]}, temperature=temperature
    )
    result = decode(*drafting(kind), temperature=temperature)
    assert rows_of(result) == rows_of(plain)
    assert int(result.stats.accepted.sum()) > 0


def test_eagle_reads_a_prompt_once():
    decoder, params = drafting("eagle")
    states = []
    for hypotheses, times in ((2, 1), (1, 2)):
        prompts, lengths = np.repeat(PROMPT, times, 0), np.repeat(LENGTHS, times)
        request = jaxdec.prepare(decoder, params, prompts, lengths=lengths, hypotheses=hypotheses)
        states.append(init(decoder, params, request).draft)
    for shared, alone in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(shared, alone, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_change_neither_tokens_nor_drafts(kind):
    decoder, params = drafting(kind)
    together = decode(decoder, params)
    for row in range(2):
        alone = decode(decoder, params, slice(row, row + 1))
        assert rows_of(alone) == rows_of(together)[row : row + 1]
        assert int(alone.stats.accepted[0]) == int(together.stats.accepted[row])


def states(kind):
    """`(tokens, lengths, drafter's state, running)` at the start and after each step."""
    decoder, params = drafting(kind)
    request = jaxdec.prepare(
        decoder, params, PROMPT, lengths=LENGTHS, max_new_tokens=12, temperature=0.9
    )
    start = init(decoder, params, request)
    copy = lambda state: jax.tree.map(np.array, (state.rows, state.draft))
    yield copy(start)
    for state, _ in stream(decoder, params, start, jax.random.key(0)):
        yield copy(state)


# Whole buffers, of which later tokens do not change what comes before: every length shares a program.
@functools.partial(jax.jit, static_argnums=0)
def forward(model, params, tokens, features=None):
    start = 0 if features is None else 1
    inputs = Inputs.causal(tokens[None], start, features=features)
    output = model(params, inputs, None)
    return output.hidden[0], output.logits[0], output.entries.layers[0]


def truth(rows, row):
    """The target's hidden states over the scored tokens of a row."""
    return np.asarray(forward(*target(), rows.tokens[row])[0])[: rows.length[row] - 1]


def read_pairs(decoder, params, tokens, features):
    """What the drafter makes of pairs: `(hidden, logits, entries)`, of a buffer that starts with them."""
    width = 48
    tokens = np.pad(tokens, (0, width - len(tokens))).astype(np.int32)
    features = np.pad(features, ((0, width - len(features)), (0, 0)))
    return forward(decoder.drafter.model, params["draft"], tokens, features[None])


CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def test_heads_read_the_state_before_the_pending_token():
    steps = list(states("medusa"))
    assert steps[0][1].known.tolist() == [True, False, True]
    for rows, draft in steps:
        for row in np.flatnonzero(rows.status == 0):
            if rows.length[row] > 1:
                assert draft.known[row]
                np.testing.assert_allclose(draft.hidden[row], truth(rows, row)[-1], **CLOSE)


def test_eagle_caches_true_pairs():
    """The cache is that of a forward over the committed pairs from scratch; the rest of them wait as features."""
    decoder, params = drafting("eagle")
    for rows, draft in states("eagle"):
        for row in np.flatnonzero((rows.status == 0) & (rows.length > 1)):
            features, stored = truth(rows, row), int(draft.cache.length[row])
            waiting = int(rows.length[row]) - 1 - stored
            assert waiting > 0
            np.testing.assert_allclose(draft.features[row, :waiting], features[stored:], **CLOSE)
            tokens = rows.tokens[row, 1 : rows.length[row]]
            entries = read_pairs(decoder, params, tokens, features)[2]
            keys, values, spans = draft.cache.read(0)[:3]
            for held, true in zip((keys, values), entries, strict=True):
                np.testing.assert_allclose(held[row, :, :stored], true[0, :, :stored], **CLOSE)
            np.testing.assert_array_equal(spans[row, :stored, 0], 1 + np.arange(stored))
            assert (spans[row, stored:, 1] < 0).all()


def test_eagle_drafts_what_it_predicts_from_its_own_features():
    """A chain at temperature 0, against one forward a draft over text that grows."""
    decoder, params = drafting("eagle", growth.chain(3))
    request = jaxdec.prepare(decoder, params, PROMPT[:1], max_new_tokens=8, temperature=0.0)
    start = init(decoder, params, request)
    propose = jax.jit(decoder.drafter.propose)
    for state, _ in stream(decoder, params, start, jax.random.key(0)):
        rows = jax.tree.map(np.array, state.rows)
        if rows.status[0]:
            break
        features = truth(rows, 0)
        tokens = rows.tokens[0, 1 : rows.length[0]].tolist()
        expected = []
        for _ in range(3):
            hidden, logits, _ = read_pairs(decoder, params, np.array(tokens), features)
            expected.append(int(logits[len(tokens) - 1].argmax()))
            features = np.concatenate([features, hidden[None, len(tokens) - 1]])
            tokens.append(expected[-1])
        noise = jnp.zeros((1, 4, V))
        context = Context(state.rows, state.settings, jax.random.split(jax.random.key(0), 1), noise)
        tree, _ = propose(decoder.drafter.own(params), state.draft, context)
        assert tree.tokens[0].tolist() == expected


def test_refusals():
    medusa, _ = build_heads("medusa", HeadsConfig(V, WIDTH, 3))
    with pytest.raises(ValueError, match="3 heads draft at most 3 levels, got 4"):
        jaxdec.drafters.heads(medusa, growth=growth.chain(4))
    for kind in KINDS:
        decoder, params = drafting(kind)
        with pytest.raises(ValueError, match="with 'target', 'draft'; got dict with 'target'"):
            jaxdec.prepare(decoder, {"target": params["target"]}, PROMPT)
    other, _ = build_heads("medusa", HeadsConfig(V + 1, WIDTH, 3))
    decoder = jaxdec.speculative(target()[0], drafter=jaxdec.drafters.heads(other))
    with pytest.raises(ValueError, match="a vocabulary of 7, the target has one of 6"):
        jaxdec.prepare(decoder, params, PROMPT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_of_another_width(kind):
    narrow = dataclasses.replace(CONFIG, width=WIDTH - 2)
    heads, params = build_heads(kind, narrow if kind == "eagle" else HeadsConfig(V, WIDTH - 2, 3))
    make = jaxdec.drafters.eagle if kind == "eagle" else jaxdec.drafters.heads
    decoder = jaxdec.speculative(target()[0], drafter=make(heads, growth=growth.chain(2)))
    with pytest.raises(ValueError, match=r"hidden states.* (have 8|a width of 8)"):
        decode(decoder, {"target": target()[1], "draft": params})
