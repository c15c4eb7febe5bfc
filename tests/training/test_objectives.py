"""Objectives against loops over tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec import any_subset, text
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.testing.oracles import hash_oracle
from jaxdec.training import objectives, subsets

pytestmark = pytest.mark.usefixtures("quick_compilation")

# What it predicts depends on every token of the window: a wrong context is a wrong number.
MODEL, PARAMS = hash_oracle(text.VOCAB_SIZE, seed=1)
TEACHER = hash_oracle(text.VOCAB_SIZE, seed=2)
LENGTH = 8


@jax.jit
def window_log_probs(tokens):
    return jax.nn.log_softmax(MODEL(PARAMS, Inputs.causal(tokens), None).logits)


def bits_by_hand(stream, length):
    """Each token once: from the stream's start while that is in reach, then from the half window before its own."""
    half, nats = length // 2, 0.0
    for target in range(1, len(stream)):
        place = target - 1
        start = 0 if place < length else (place // half - 1) * half
        context = stream[start:target]
        assert half < len(context) <= length or start == 0
        padded = np.pad(context, (0, length - len(context)))
        nats -= float(window_log_probs(padded[None])[0, len(context) - 1, stream[target]])
    return nats / np.log(2) / (stream[1:] < 256).sum()


def random_stream(tokens, seed=0):
    stream = np.random.default_rng(seed).integers(0, 256, tokens)
    stream[0] = text.BOS
    if tokens > 9:
        stream[[6, 7]] = text.EOS, text.BOS
    return stream


@pytest.mark.parametrize("tokens", [2, 8, 9, 12, 13, 14, 30])
def test_every_token_is_scored_once(tokens):
    stream = random_stream(tokens)
    got = objectives.bits_per_byte(MODEL, PARAMS, stream, length=LENGTH, batch=3)
    np.testing.assert_allclose(got, bits_by_hand(stream, LENGTH), rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 64])
def test_the_number_of_rows_at_once_does_not_matter(batch):
    stream = random_stream(31).astype(np.int16)
    got = objectives.bits_per_byte(MODEL, PARAMS, stream, length=LENGTH, batch=batch)
    np.testing.assert_allclose(got, bits_by_hand(stream.astype(int), LENGTH), rtol=1e-5)


def test_streams_that_cannot_be_scored():
    for length in (0, 7):
        with pytest.raises(ValueError, match=f"length must be even and at least 2, got {length}"):
            objectives.bits_per_byte(MODEL, PARAMS, random_stream(20), length=length)
    for stream in ([], [65], [text.BOS, text.EOS]):
        with pytest.raises(ValueError, match=f"a stream of {len(stream)} tokens has no byte"):
            objectives.bits_per_byte(MODEL, PARAMS, np.array(stream, int), length=LENGTH)


TOKENS = jnp.asarray(np.random.default_rng(5).integers(0, 256, (3, LENGTH + 1)))


def test_causal_is_the_mean_over_next_tokens():
    log_probs = window_log_probs(TOKENS[:, :-1])
    log_probs = np.asarray(log_probs)
    losses = [-log_probs[b, t, TOKENS[b, t + 1]] for b in range(3) for t in range(LENGTH)]
    loss = objectives.cross_entropy(objectives.causal(MODEL, PARAMS, TOKENS))
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)


@jax.jit
def distill(params, weight, teacher_params=TEACHER[1]):
    teacher = objectives.causal(TEACHER[0], teacher_params, TOKENS).logits
    return objectives.cross_entropy(objectives.causal(MODEL, params, TOKENS), teacher, weight)


def test_distillation_with_no_weight_is_the_causal_loss():
    loss = lambda params: objectives.cross_entropy(objectives.causal(MODEL, params, TOKENS))
    causal = jax.jit(jax.value_and_grad(loss))(PARAMS)
    mixed = jax.jit(jax.value_and_grad(distill))(PARAMS, 0.0)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), causal, mixed)


def test_distillation_mixes_data_and_teacher():
    law = jax.nn.softmax(TEACHER[0](TEACHER[1], Inputs.causal(TOKENS[:, :-1])).logits)
    teacher = -(law * window_log_probs(TOKENS[:, :-1])).sum(-1).mean()
    np.testing.assert_allclose(distill(PARAMS, 1.0), teacher, rtol=1e-5)
    causal = objectives.cross_entropy(objectives.causal(MODEL, PARAMS, TOKENS))
    np.testing.assert_allclose(distill(PARAMS, 0.25), 0.75 * causal + 0.25 * teacher, rtol=1e-5)


def test_the_teacher_is_not_trained():
    grads = jax.grad(distill, argnums=2)(PARAMS, 0.5, TEACHER[1])
    assert not grads.any()


class Direct:
    """A small network as an any-subset model, and its law of one token by a forward of its own."""

    CONFIG = TransformerConfig(
        vocab_size=text.VOCAB_SIZE, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=16
    )

    def __init__(self):
        self.model, self.params = from_nnx(Transformer(self.CONFIG, rngs=nnx.Rngs(0)))
        self.any_subset = any_subset.two_stream(self.model, text.MASK)

    def bits(self, tokens, visible):
        order = any_subset.lattice(visible)
        terms = any_subset.log_prob(self.any_subset, self.params, jnp.asarray(tokens), order)
        return np.asarray(terms)


@pytest.fixture(scope="module")
def direct():
    return Direct()


def test_the_any_subset_objective_is_the_joint_of_the_scored_tokens(direct):
    stream = random_stream(60)
    masking = subsets.Masking(scored=5, rates=(0.2, 0.9), warmup=1)
    batch = subsets.draw(stream, masking, batch=5, length=12, seed=1, step=4)
    terms = direct.bits(batch.tokens, batch.visible)
    picked = np.take_along_axis(terms, batch.scored, axis=1)
    expected = -(picked * batch.weights).sum() / batch.weights.sum()
    loss = objectives.cross_entropy(objectives.any_subset(direct.model, direct.params, batch))
    # `log_prob` gives the mask token no mass, the objective a little.
    np.testing.assert_allclose(loss, expected, rtol=2e-3)


def test_bits_per_masked_byte(direct):
    stream = random_stream(41)
    half = lambda generator: np.arange(10) < 5
    got = objectives.bits_per_masked_byte(
        direct.any_subset, direct.params, stream, half, length=10, windows=4, batch=3
    )
    windows = np.stack([stream[start : start + 10] for start in (0, 10, 20, 31)])
    terms = direct.bits(windows, np.tile(half(None), (4, 1)))
    counted = (windows[:, 5:] < 256).sum()
    np.testing.assert_allclose(got, -terms.sum() / np.log(2) / counted, rtol=1e-5)
    with pytest.raises(ValueError, match="a stream of 5 tokens has no window of 10"):
        objectives.bits_per_masked_byte(
            direct.any_subset, direct.params, stream[:5], half, length=10
        )
