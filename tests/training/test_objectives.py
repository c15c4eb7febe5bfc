"""Objectives against loops over tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import text
from jaxdec.model import Inputs
from jaxdec.testing.oracles import hash_oracle
from jaxdec.training import objectives

# What it predicts depends on every token of the window: a wrong context is a wrong number.
MODEL, PARAMS = hash_oracle(text.VOCAB_SIZE, seed=1)
TEACHER = hash_oracle(text.VOCAB_SIZE, seed=2)
LENGTH = 8


@jax.jit
def window_log_probs(tokens):
    return jax.nn.log_softmax(MODEL.forward(PARAMS, Inputs.causal(tokens), None).logits)


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
    np.testing.assert_allclose(objectives.causal(MODEL, PARAMS, TOKENS), np.mean(losses), rtol=1e-5)


@jax.jit
def distill(params, weight, teacher_params=TEACHER[1]):
    return objectives.distillation(MODEL, params, TEACHER[0], teacher_params, TOKENS, weight)


def test_distillation_with_no_weight_is_the_causal_loss():
    causal = jax.jit(jax.value_and_grad(lambda p: objectives.causal(MODEL, p, TOKENS)))(PARAMS)
    mixed = jax.jit(jax.value_and_grad(distill))(PARAMS, 0.0)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), causal, mixed)


def test_distillation_mixes_data_and_teacher():
    law = jax.nn.softmax(TEACHER[0].forward(TEACHER[1], Inputs.causal(TOKENS[:, :-1])).logits)
    teacher = -(law * window_log_probs(TOKENS[:, :-1])).sum(-1).mean()
    np.testing.assert_allclose(distill(PARAMS, 1.0), teacher, rtol=1e-5)
    causal = objectives.causal(MODEL, PARAMS, TOKENS)
    np.testing.assert_allclose(distill(PARAMS, 0.25), 0.75 * causal + 0.25 * teacher, rtol=1e-5)


def test_the_teacher_is_not_trained():
    grads = jax.grad(distill, argnums=2)(PARAMS, 0.5, TEACHER[1])
    assert not grads.any()
