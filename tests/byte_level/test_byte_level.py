"""Laws of bytes against the sum over all strings of tokens, and their decoder against these laws."""

import functools
import itertools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import byte_level
from jaxdec.byte_level import END
from jaxdec.decoding import Status
from jaxdec.model import Inputs
from jaxdec.testing import oracles
from tests.byte_level import toy

pytestmark = pytest.mark.usefixtures("quick_compilation")

TOKENS = byte_level.byte_tokens(pieces=toy.PIECES, encode=toy.encode)
MODEL, TABLE = oracles.hash_oracle(toy.V, seed=4, scale=1.0, eos=(toy.END_TOKEN,))
MEMBER = byte_level.member(MODEL, start=toy.START)
DECODER = byte_level.byte_level(MEMBER)
PARAMS = {"target": TABLE, "bytes": TOKENS}
TEXTS = [b"ab", b"c", b"aabcc", b"abab"]
PROMPT = np.array([[*text, *[0] * (5 - len(text))] for text in TEXTS])
LENGTHS = np.array(list(map(len, TEXTS)))
ASKED = dict(
    lengths=LENGTHS,
    rng=3,
    max_new_tokens=6,
    temperature=[1.0, 0.0, 0.8, 1.3],
    banned=np.arange(257) == END,
)


@functools.cache
def random_law(context):
    weights = np.random.default_rng([7, *context]).normal(size=toy.V)
    return toy.restricted(weights.tolist(), context)


@jax.jit
def logits_after(tokens):
    return MODEL(TABLE, Inputs.causal(tokens)).logits[0]


@functools.cache
def model_law(context):
    tokens = np.zeros((1, 16), np.int32)
    tokens[0, : len(context) + 1] = [toy.START, *context]
    logits = np.asarray(logits_after(tokens), float)[len(context)]
    return toy.restricted(logits.tolist(), context)


def test_pairs_decide_what_is_an_encoding():
    """No token at all may be the encoding of what another string encodes: the whole test, for all of up to four."""
    may_follow = np.asarray(TOKENS.after(jnp.arange(toy.V)))
    assert not may_follow[:, 10:].any()
    chosen = random.Random(0).sample(list(itertools.product(range(10), repeat=4)), 1500)
    for tokens in [*itertools.product(range(10), repeat=3), *chosen]:
        assert toy.is_encoding(tokens) == all(
            may_follow[u, v] for u, v in itertools.pairwise(tokens)
        )


def test_merges_say_which_pairs_are_encodings():
    """Two merges of equal tokens among them, whose ties the left one wins."""
    merges = [
        (toy.PIECES.index(x), toy.PIECES.index(y), 3 + i) for i, (x, y) in enumerate(toy.MERGES)
    ]
    known = byte_level.byte_tokens(pieces=toy.PIECES, merges=merges)
    every = jnp.arange(10)
    found = jax.jit(lambda tokens: tokens.after(every))(known)
    np.testing.assert_array_equal(found, TOKENS.after(every))
    rng = np.random.default_rng(0)
    for _ in range(8):  # and encodings at random
        pieces, chosen = [b"a", b"b", b"c"], []
        while len(pieces) < 12:
            u, v = rng.integers(len(pieces), size=2).tolist()
            if pieces[u] + pieces[v] not in pieces:
                chosen.append((u, v, len(pieces)))
                pieces.append(pieces[u] + pieces[v])
        encode = functools.partial(toy.encode_by, chosen)
        own = [piece if encode(piece) == [i] else b"" for i, piece in enumerate(pieces)]
        known = byte_level.byte_tokens(pieces=own, merges=chosen)
        tried = byte_level.byte_tokens(pieces=own, encode=encode)
        text = np.flatnonzero([bool(piece) for piece in own])
        np.testing.assert_array_equal(known.after(text), tried.after(text))


def test_laws_are_sums_over_all_strings_of_tokens():
    """All texts of up to five bytes, in float64."""
    texts = list(itertools.product(b"abc", repeat=5))
    next_law, follow = jax.jit(byte_level.next_law), jax.jit(byte_level.follow)
    extend = jax.jit(byte_level.extend)

    def laws(contexts):
        law = np.full((len(contexts), toy.V), -np.inf)
        end = np.zeros(len(contexts))
        for row, context in enumerate(contexts):
            own = random_law(context)
            end[row] = own[toy.END_TOKEN]
            for v in own.keys() - {toy.END_TOKEN}:
                law[row, v] = own[v]
        return jnp.asarray(law), jnp.asarray(end)

    prefix = functools.cache(lambda text: toy.prefix_probability(random_law, text))
    whole = functools.cache(lambda text: toy.whole_probability(random_law, text))
    with jax.enable_x64(True):
        contexts = [()] * len(texts)
        covers = byte_level.begin(TOKENS, *laws(contexts))
        for n in range(6):
            law = np.exp(np.asarray(next_law(covers, TOKENS)))
            total = np.exp(np.asarray(covers.log_prob))
            assert law.dtype == np.float64
            np.testing.assert_allclose(law.sum(-1), 1, rtol=1e-12)
            for row, text in enumerate(texts):
                text = bytes(text[:n])
                np.testing.assert_allclose(total[row], prefix(text), rtol=1e-9)
                np.testing.assert_allclose(law[row, END] * total[row], whole(text), rtol=1e-9)
            if n == 5:
                break
            covers, done = follow(covers, TOKENS, jnp.asarray([text[n] for text in texts]))
            np.testing.assert_array_equal(done.count, 1)
            contexts = [toy.encode(bytes(text[: n + 1])) for text in texts]
            assert np.asarray(done.token).tolist() == [context[-1] for context in contexts]
            covers = extend(covers, done, *laws(contexts))


def test_decoding_draws_from_these_laws():
    asked = {name: value for name, value in ASKED.items() if name != "rng"}
    request = jaxdec.prepare(DECODER, PARAMS, PROMPT, **asked)
    state = jaxdec.decoding.init(DECODER, PARAMS, request)
    state, record = jaxdec.run(DECODER, PARAMS, state, jax.random.key(3))
    # One slot a forward: the start, and each byte that was read.
    np.testing.assert_array_equal(state.members[0].cache.length, state.rows.length)
    np.testing.assert_array_equal(record.stats.target_forwards, 6)
    tokens, raw = np.asarray(state.rows.tokens), np.asarray(record.raw_log_probs)
    prefix = functools.cache(lambda text: toy.prefix_probability(model_law, text))
    for row, start in enumerate(LENGTHS):
        text = bytes(tokens[row, : start + 6].tolist())
        for n in range(start, start + 6):
            expected = prefix(text[: n + 1]) / prefix(text[:n])
            np.testing.assert_allclose(np.exp(raw[row, n]), expected, rtol=2e-5)
        read = float(state.members[0].covers.log_prob[row])
        np.testing.assert_allclose(np.exp(read), prefix(text[:-1]), rtol=1e-4)


def test_a_row_is_what_it_is_alone():
    both = jaxdec.generate(DECODER, PARAMS, PROMPT, **{**ASKED, "rng": [1, 2, 3, 4]})
    one = jaxdec.generate(
        DECODER, PARAMS, PROMPT[2:3], **{**ASKED, "rng": 3, "lengths": [5], "temperature": 0.8}
    )
    np.testing.assert_array_equal(one.tokens[0], both.tokens[2])


def test_members_of_other_vocabularies_are_mixed():
    single = byte_level.byte_tokens(
        pieces=[b"a", b"b", b"c", b"", b""], pairs=np.ones((5, 5), bool)
    )
    other, weights = oracles.hash_oracle(5, seed=9, scale=1.0, eos=(3,))
    two = byte_level.byte_level(
        MEMBER, byte_level.member(other, start=4, weights="other", name="letters")
    )
    params = {**PARAMS, "other": weights, "letters": single}
    found = jaxdec.generate(two, params, PROMPT, **ASKED)
    for row in (0, 2):
        start = int(LENGTHS[row])
        text = bytes(np.asarray(found.tokens)[row, :start].astype(np.uint8))
        letters = jnp.asarray([[4, *(b"abc".index(byte) for byte in text)]])
        logits = np.asarray(other(weights, Inputs.causal(letters)).logits[0, -1], float)[:4]
        law = np.exp(logits) / np.exp(logits).sum()
        token = int(found.tokens[row, start])
        mine = toy.prefix_probability(model_law, text + bytes([token]))
        theirs = law[b"abc".index(token)]
        expected = (mine / toy.prefix_probability(model_law, text) + theirs) / 2
        np.testing.assert_allclose(np.exp(found.raw_log_probs[row, start]), expected, rtol=2e-5)


def test_texts_end_and_what_cannot_be_spelled_has_no_law():
    prompt = np.array([list(b"ab"), list(b"az"), [97, END]])
    found = jaxdec.generate(DECODER, PARAMS, prompt, rng=0, max_new_tokens=60, temperature=1.0)
    assert found.status == [Status.EOS, Status.NONFINITE, Status.NONFINITE]
    assert int(found.tokens[0, int(found.lengths[0]) - 1]) == END


def test_what_is_refused():
    generate = lambda params: jaxdec.generate(DECODER, params, PROMPT, rng=0)
    for call, message in (
        (lambda: generate({"target": TABLE}), "'bytes'"),
        (lambda: generate({"target": TABLE, "bytes": TABLE}), "must be what byte_level.byte_tokens gives"),
        (lambda: byte_level.byte_tokens(pieces=[b""]), "pieces: got none"),
        (lambda: byte_level.byte_tokens(pieces=[b"a"]), "encode: got none"),
        (lambda: byte_level.byte_tokens(pieces=[b"a"] * 5000, encode=list), "got 5000 tokens to try"),
        (lambda: byte_level.byte_tokens(pieces=[b"a"], pairs=np.ones((2, 2), bool)), r"must be bool \(1, 1\)"),
        (lambda: byte_level.byte_tokens(pieces=[b"a"], merges=[(0, 0)]), r"got shape \(1, 2\)"),
        (lambda: byte_level.byte_tokens(pieces=[b"a"], merges=[(0, 0, 1)]), r"outside \[0, 1\)"),
        (lambda: byte_level.member(MODEL, start=12), "token 12 lies outside the vocabulary of 12"),
        (lambda: byte_level.byte_level(), "members: got none"),
        (lambda: byte_level.byte_level(MODEL), "got Model, must be made by"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
