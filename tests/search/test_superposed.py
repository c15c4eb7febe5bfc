"""Superposed decoding against a plain twin that reads the whole stream anew, and the store of n-grams."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import search
from jaxdec.model import Inputs, Mixture
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.search import superposed
from jaxdec.testing import oracles

pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB, DRAFTS, TRIED, ROOM, EOS = 12, 3, 5, 16, 0
CONFIG = TransformerConfig(
    vocab_size=VOCAB, width=16, layers=1, heads=2, kv_heads=1, head_dim=8, hidden=16
)
MODEL, TARGET = jaxdec.from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(1)))
TARGET = jax.tree.map(lambda x: x * 8 if x.ndim > 1 else x, TARGET)
PROMPTS, LENGTHS = np.array([[1, 2, 3], [4, 5, 0], [7, 0, 0]]), np.array([3, 2, 1])
TEXTS = np.random.default_rng(0).integers(0, VOCAB, (6, 40)).tolist()
ORDERS = (2, 3, 4)
STORE = search.ngram_store(TEXTS, ORDERS, keep=VOCAB)
PARAMS = {"target": TARGET, "ngrams": STORE}
MANY = superposed(MODEL, search.NGrams(), candidates=TRIED)


def counted(order):
    """What followed each context, in Python."""
    found = collections.defaultdict(collections.Counter)
    for text in TEXTS:
        for end in range(order - 1, len(text)):
            found[tuple(text[end - order + 1 : end])][text[end]] += 1
    return found


COUNTS = {order: counted(order) for order in ORDERS}


@jax.jit
def stream_law(tokens, weights, length):
    """The law after the first mixtures of one stream `[ROOM, H]`."""
    valid = (jnp.arange(ROOM) < length)[None]
    inputs = Inputs.causal(tokens[None, :, 0], valid=valid)
    inputs = dataclasses.replace(inputs, mixture=Mixture(tokens[None], weights[None]))
    return jax.nn.log_softmax(MODEL(TARGET, inputs, None).logits[0, length - 1])


def chances(text, token):
    total = 0.0
    for order in ORDERS:
        found = COUNTS[order].get(tuple(text[len(text) - order + 1 :]), {})
        if found and len(text) >= order - 1:
            total += superposed_weights()[order] * found.get(token, 0) / sum(found.values())
    return total


def superposed_weights():
    return {2: 0.01, 3: 0.04, 4: 0.15}


def drafts_of(prompt, budget, weight, sharpness):
    """`(score, new tokens)` of the finished drafts, best first."""
    tokens, weights = np.zeros((ROOM, DRAFTS), np.int32), np.zeros((ROOM, DRAFTS), np.float32)
    for i, token in enumerate(prompt):
        tokens[i], weights[i] = token, np.eye(DRAFTS)[0]
    running, finished = [(0.0, [])], []
    for length in range(1, budget + 1):
        law = np.asarray(stream_law(tokens, weights, len(prompt) + length - 1)) / sharpness
        best = np.argsort(-law)[:TRIED]
        log_probs = law[best] - np.logaddexp.reduce(law[best])
        found = []
        for score, new in running:
            said = [chances([*prompt, *new], token) for token in best]
            for token, log_prob, chance in zip(best, log_probs, said, strict=True):
                added = (1 - weight) * log_prob
                if weight and any(said):
                    if not chance:
                        continue
                    added += weight * np.log(chance)
                elif weight:
                    added -= 200
                found.append((score + added, [*new, int(token)]))
        found = sorted(found, key=lambda one: -one[0])[: 2 * DRAFTS]
        ends = [new[-1] == EOS or length == budget for _, new in found]
        finished += [one for one, end in list(zip(found, ends, strict=True))[:DRAFTS] if end]
        finished = sorted(finished, key=lambda one: -one[0])[:DRAFTS]
        running = [one for one, end in zip(found, ends, strict=True) if not end][:DRAFTS]
        if not running or (len(finished) == DRAFTS and running[0][0] <= finished[-1][0]):
            return finished
        place = len(prompt) + length - 1
        scores = np.array([score for score, _ in running])
        tokens[place, : len(running)] = [new[-1] for _, new in running]
        weights[place, : len(running)] = np.exp(scores - np.logaddexp.reduce(scores))
    return finished


def test_drafts_are_those_of_the_twin():
    cases = [
        (p, weight, sharp)
        for p in range(3)
        for weight, sharp in ((0.54, 1.0), (0.0, 0.5), (0.2, 0.2))
    ]
    rows, weights, sharpness = (list(x) for x in zip(*cases, strict=True))
    result = jaxdec.generate(
        MANY,
        PARAMS,
        PROMPTS[rows],
        lengths=LENGTHS[rows],
        rng=0,
        hypotheses=DRAFTS,
        max_new_tokens=9,
        eos=(EOS,),
        ngram_weight=weights,
        sharpness=sharpness,
    )
    scores, lengths = np.asarray(result.pool.scores), np.asarray(result.lengths)
    several = 0
    for i, (p, weight, sharp) in enumerate(cases):
        start = int(LENGTHS[p])
        expected = drafts_of(PROMPTS[p, :start].tolist(), 9, weight, sharp)
        for h, (score, new) in enumerate(expected):
            row = i * DRAFTS + h
            assert np.asarray(result.tokens)[row, start : lengths[row]].tolist() == new
            np.testing.assert_allclose(scores[row], score, rtol=1e-4, atol=1e-4)
        several += len({tuple(new) for _, new in expected}) > 1
    assert several == len(cases)


def test_one_draft_without_ngrams_is_greedy_decoding():
    ask = functools.partial(
        jaxdec.generate,
        params=PARAMS,
        prompt=PROMPTS,
        lengths=LENGTHS,
        rng=0,
        max_new_tokens=[9, 12, 4],
        eos=(EOS,),
    )
    greedy = ask(jaxdec.autoregressive(MODEL), temperature=0.0)
    one = ask(superposed(MODEL))
    np.testing.assert_array_equal(one.tokens, greedy.tokens)
    np.testing.assert_array_equal(one.codes, greedy.codes)


def test_a_mixture_of_one_token_is_that_token_and_mixtures_are_sums():
    tokens = jnp.asarray([[[1, 2], [3, 4], [5, 5]]])
    weights = jnp.asarray([[[1.0, 0.0], [0.0, 1.0], [0.4, 0.6]]])
    plain = Inputs.causal(jnp.asarray([[1, 4, 5]]))
    mixed = dataclasses.replace(plain, mixture=Mixture(tokens, weights))
    network = Transformer(CONFIG, rngs=nnx.Rngs(1))
    np.testing.assert_allclose(network.embed(mixed), network.embed(plain), rtol=1e-6, atol=1e-7)
    half = Mixture(tokens, jnp.full(tokens.shape, 0.5))
    table = network.embed_tokens.embedding[...]
    expected = (table[tokens[0, :, 0]] + table[tokens[0, :, 1]]) / 2
    found = network.embed(dataclasses.replace(plain, mixture=half))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_the_store_says_what_was_counted(order):
    table = STORE[ORDERS.index(order)]
    rng = np.random.default_rng(1)
    contexts = rng.integers(0, VOCAB, (300, order - 1))
    seen = np.array(list(COUNTS[order]))[:100]
    contexts = np.concatenate([seen, contexts]).astype(np.int32)
    tokens = np.tile(np.arange(VOCAB, dtype=np.int32), (len(contexts), 1))
    found = np.asarray(jax.jit(type(table).chance)(table, contexts, tokens))
    for context, row in zip(contexts.tolist(), found, strict=True):
        counts = COUNTS[order].get(tuple(context), {})
        total = max(sum(counts.values()), 1)
        np.testing.assert_allclose(row, [counts.get(v, 0) / total for v in range(VOCAB)], rtol=1e-6)
    assert (found.sum(-1) == 0).any() or order == 2


def test_only_the_most_frequent_continuations_are_kept():
    (table,) = search.ngram_store([[1, 2, 1, 2, 1, 3, 1, 4]], (2,), keep=2)
    found = table.chance(jnp.array([[1]]), jnp.array([[2, 3, 4]]))
    np.testing.assert_allclose(found, [[0.5, 0.25, 0.0]])


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="mixtures of tokens, which the model does not read"):
        superposed(oracles.joint_oracle(3, 2)[0])
    with pytest.raises(ValueError, match="candidates must be at least 1, got 0"):
        superposed(MODEL, candidates=0)
    with pytest.raises(ValueError, match="orders must be at least 2, got 1"):
        search.ngram_store(TEXTS, (1,))
    with pytest.raises(ValueError, match="orders holds 6, and the longest text has 2 tokens"):
        search.ngram_store([[1, 2]], (6,))
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        search.ngram_store(TEXTS, keep=0)
    with pytest.raises(ValueError, match="'ngrams'"):
        jaxdec.generate(MANY, {"target": TARGET}, PROMPTS, rng=0)
