"""Self-speculation by early exits: what is drafted, what is counted, and what is chosen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import drafters
from jaxdec.decoding import init, stream
from jaxdec.model import Inputs, early_exit, from_nnx, readout, tapped
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.speculative.drafters import ExitCounts

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = TransformerConfig(
    vocab_size=13, width=16, layers=3, heads=2, kv_heads=1, head_dim=8, hidden=16
)
MODEL, PARAMS = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(2)))
PARAMS = jax.tree.map(lambda x: x * (20 if x.shape == (13, 16) else 1), PARAMS)
PROMPT, LENGTHS = np.array([[1, 2, 3, 1, 2], [4, 0, 5, 0, 0], [7, 0, 0, 0, 0]]), np.array([5, 3, 1])
EVERY = slice(None)


def decode(decoder, rows=EVERY, **options):
    keys = jax.random.split(jax.random.key(3), 3)[rows]
    return jaxdec.generate(
        decoder, {"target": PARAMS}, PROMPT[rows], lengths=LENGTHS[rows], rng=keys,
        max_new_tokens=24, eos=(), **{"temperature": np.array([0.0, 0.8, 0.8])[rows], **options},
    )  # fmt: skip


def test_states_are_read_as_an_exit_reads_them():
    inputs, read = Inputs.causal(jnp.asarray(PROMPT)), jax.jit(readout(MODEL))
    states = jax.jit(lambda: tapped(MODEL, (1, 2))(PARAMS, inputs, None).layer_states)()
    for layers, state in zip((1, 2), states, strict=True):
        expected = jax.jit(lambda n=layers: early_exit(MODEL, n)(PARAMS, inputs, None).logits)()
        np.testing.assert_allclose(read(PARAMS, state), expected, rtol=1e-5, atol=1e-4)
    learned = dataclasses.replace(CONFIG, positions="learned", max_length=8)
    with pytest.raises(ValueError, match="learned positions"):
        readout(from_nnx(Transformer(learned, rngs=nnx.Rngs(0)))[0])


MAKE = {
    "layer skip": lambda: drafters.layer_skip(MODEL, layers=2, length=3),
    "dynamic exit": lambda: drafters.dynamic_exit(MODEL, length=3, memory=0.9),
}


@pytest.mark.parametrize(
    "name", [pytest.param("layer skip", marks=pytest.mark.slow), "dynamic exit"]
)
def test_tokens_are_those_of_plain_decoding(name):
    decoder = jaxdec.speculative(MODEL, drafter=MAKE[name]())
    result, plain = decode(decoder), decode(jaxdec.autoregressive(MODEL))
    np.testing.assert_array_equal(result.tokens, plain.tokens)
    assert (result.stats.accepted > 0).all()
    alone = decode(decoder, slice(1, 2))  # whatever exits others draft with
    assert int(alone.stats.proposed[0]) == int(result.stats.proposed[1])


@pytest.mark.slow
def test_all_layers_draft_what_the_target_says():
    whole = drafters.layer_skip(MODEL, layers=3, length=3)
    result = decode(jaxdec.speculative(MODEL, drafter=whole))
    assert (result.stats.target_forwards == 6).all()


def by_hand(counts, sums, layers, whole, depth):
    best = None
    for place, n in enumerate(layers):
        right, wrong = counts[place]
        rate = right / (right + wrong)
        for drafts in range(depth + 1):
            speed = sum(rate**j for j in range(drafts + 1)) / (whole + drafts * n)
            if best is None or speed > best[0] + 1e-7:
                best = (speed, place, drafts)
    _, place, drafts = best
    return place, drafts, (sums[place] / counts[place]).mean()


def test_the_choice_is_that_of_most_tokens_a_layer():
    rng = np.random.default_rng(0)
    counts = rng.uniform(0.2, 9, (200, 3, 2)).astype(np.float32)
    sums = (counts * rng.uniform(0, 1, counts.shape)).astype(np.float32)
    layers = np.array([1, 2, 5])
    chosen = ExitCounts(jnp.asarray(counts), jnp.asarray(sums)).choose(jnp.asarray(layers), 8, 6)
    seen = set()
    for row in range(200):
        place, drafts, bar = by_hand(counts[row].astype(float), sums[row], layers, 8, 6)
        assert [int(x[row]) for x in chosen[:2]] == [place, drafts]
        assert float(chosen[2][row]) == pytest.approx(bar, rel=1e-5)
        seen |= {place, ("drafts", drafts)}
    assert {0, 1, 2, ("drafts", 0), ("drafts", 6)} <= seen


def test_exits_are_counted_along_what_was_committed():
    """With greedy rows: every exit at every place, up to the first draft that failed."""
    memory = 0.9
    drafter = drafters.dynamic_exit(MODEL, length=3, memory=memory)
    decoder = jaxdec.speculative(MODEL, drafter=drafter)
    request = jaxdec.prepare(
        decoder, {"target": PARAMS}, PROMPT, lengths=LENGTHS, max_new_tokens=16, eos=(),
        temperature=0.0,
    )  # fmt: skip
    start = init(decoder, {"target": PARAMS}, request)
    whole = decode(jaxdec.autoregressive(MODEL), temperature=0.0).tokens
    said = []
    for layers in (1, 2, 3):
        forward = lambda n=layers: early_exit(MODEL, n)(PARAMS, Inputs.causal(whole), None).logits
        logits = np.asarray(jax.jit(forward)())
        said.append((logits.argmax(-1), np.asarray(jax.nn.softmax(logits)).max(-1)))
    counts, sums = np.ones((3, 2, 2)), np.zeros((3, 2, 2))
    length = np.asarray(start.rows.length)
    for state, _ in stream(decoder, {"target": PARAMS}, start, jax.random.key(0)):
        after = np.asarray(state.rows.length)
        for row in range(3):
            if after[row] > length[row]:
                counts[row], sums[row] = memory * counts[row], memory * sums[row]
            for place in range(length[row] - 1, after[row] - 1):
                for exit, (tokens, sure) in enumerate(said[:2]):
                    side = int(tokens[row, place] != said[2][0][row, place])
                    counts[row, exit, side] += 1
                    sums[row, exit, side] += sure[row, place]
        np.testing.assert_allclose(state.draft.counts, counts, rtol=1e-4)
        np.testing.assert_allclose(state.draft.sums, sums, rtol=1e-3)
        length = after


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: drafters.layer_skip(MODEL, layers=4), "layers must be 1 to 3, got 4"),
        (lambda: drafters.layer_skip(MODEL, length=0), "length must be at least 1, got 0"),
        (lambda: drafters.dynamic_exit(MODEL, exits=()), "exits must be different numbers"),
        (lambda: drafters.dynamic_exit(MODEL, exits=(1, 1)), "exits must be different numbers"),
        (lambda: drafters.dynamic_exit(MODEL, memory=0.0), "memory must lie in .0, 1., got 0"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
