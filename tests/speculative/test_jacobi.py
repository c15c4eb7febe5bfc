"""Jacobi windows: which answer becomes which guess, and by which law."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import drafters, visibility
from jaxdec.model import Inputs
from jaxdec.speculative.drafters import JacobiWindow
from jaxdec.testing.oracles import hash_oracle
from tests.speculative.contexts import context, propose, randoms, step_result

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, M = 5, 3
MODEL, PARAMS = hash_oracle(V, seed=4)


def test_forwards_are_those_of_a_twin():
    """Greedy: the twin iterates on lists with the model itself, with no cache, no tree and no window."""
    prompt, budget = [1, 2, 3, 0], 20

    @jax.jit
    def answers(text):
        inputs = Inputs.causal(text[None], jnp.zeros(1, jnp.int32))
        return jnp.argmax(MODEL(PARAMS, inputs, None).logits[0], axis=-1)

    text, guesses, forwards = list(prompt), [prompt[-1]] * M, 0
    while len(text) < len(prompt) + budget:
        whole = np.zeros(len(prompt) + budget + M + 1, np.int32)
        whole[: len(text) + M] = text + guesses
        after = np.asarray(answers(jnp.asarray(whole)))[len(text) - 1 : len(text) + M].tolist()
        right = next((i for i in range(M) if guesses[i] != after[i]), M)
        text += after[: right + 1]
        guesses = after[right + 1 :]
        guesses += [(guesses or text)[-1]] * (M - len(guesses))
        forwards += 1
    decoder = jaxdec.speculative(MODEL, drafter=drafters.jacobi(MODEL, length=M))
    result = jaxdec.generate(
        decoder,
        {"target": PARAMS},
        [prompt],
        rng=jax.random.key(0),
        max_new_tokens=budget,
        temperature=0.0,
    )
    assert (
        np.asarray(result.tokens)[0, : len(prompt) + budget].tolist()
        == text[: len(prompt) + budget]
    )
    assert int(result.stats.target_forwards[0]) == forwards < budget


@pytest.mark.parametrize("committed", [1, 2, 4])
def test_the_window_moves_on_by_what_was_committed(committed):
    drafter = drafters.jacobi(MODEL, length=M)
    logits = jnp.asarray(randoms(0).normal(size=(1, M + 1, V)))
    rows = types.SimpleNamespace(length=jnp.array([7 + committed]))
    output = types.SimpleNamespace(logits=logits)
    proposal = jnp.array([[3, 4, 2]]), jnp.array([7])
    window = drafter.update(None, None, rows, step_result(proposal, output=output))
    left = M + 1 - committed  # answers to later guesses
    assert window.known[0].tolist() == [True] * left + [False] * (M - left)
    np.testing.assert_allclose(window.logits[0, :left], logits[0, committed:])
    assert window.given[0, : max(left - 1, 0)].tolist() == [3, 4, 2][committed:]


def test_guesses_state_the_laws_they_were_drawn_from():
    drafter = drafters.speculative_jacobi(MODEL, length=M)
    random = randoms(1)
    logits = jnp.asarray(random.normal(size=(1, M, V)), jnp.float32)
    window = JacobiWindow(logits, jnp.array([[2, 2, 0]]), jnp.array([[True, True, False]]))
    noise = jnp.asarray(random.gumbel(size=(1, M + 1, V)), jnp.float32)
    seen = context([[1, 4]], V, M, noise=noise, temperature=0.7, frequency_penalty=0.9)
    tree, _ = propose(drafter, None, window, seen)
    for place, counts in enumerate([[0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]):  # guesses told before
        law = jax.nn.log_softmax((logits[0, place] - 0.9 * np.array(counts)) / 0.7)
        np.testing.assert_allclose(tree.q[0, place], law, rtol=1e-5)
        assert int(tree.tokens[0, place]) == int(jnp.argmax(law + noise[0, place]))
    assert tree.tokens[0, 2] == tree.tokens[0, 1]  # nothing is known: the left one again
    assert np.exp(tree.q[0, 2]).tolist() == np.eye(V)[tree.tokens[0, 2]].tolist()


def test_a_window_that_knows_nothing_repeats_the_pending_token():
    drafter = drafters.speculative_jacobi(MODEL, length=M)
    seen = context([[1, 4]], V, M)
    state = JacobiWindow(
        jnp.full((1, M, V), jnp.nan), jnp.zeros((1, M), jnp.int32), jnp.ones((1, M), bool)
    )
    tree, _ = propose(drafter, None, state, seen)  # answers of a broken model
    assert tree.tokens.tolist() == [[4, 4, 4]] and not np.isnan(tree.q).any()


@dataclasses.dataclass(frozen=True)
class _Blind:
    """A law of the position alone."""

    def __call__(self, params, inputs, cache=None):
        key_spans = jnp.broadcast_to(jnp.asarray(visibility.EMPTY), inputs.key_spans.shape)
        return MODEL(params, dataclasses.replace(inputs, key_spans=key_spans), None)


@pytest.mark.parametrize(
    "verifier", [jaxdec.verifiers.SharedNoiseWalk(), jaxdec.verifiers.TokenRatio()]
)
def test_guesses_by_laws_that_do_not_change_all_stand(verifier):
    model = dataclasses.replace(MODEL, forward=_Blind())
    drafter = drafters.speculative_jacobi(model, length=M)
    decoder = jaxdec.speculative(model, drafter=drafter, verifier=verifier)
    result = jaxdec.generate(
        decoder,
        {"target": PARAMS},
        [[1, 2]] * 4,
        rng=jax.random.key(0),
        max_new_tokens=32,
        temperature=1.0,
    )
    # At worst one token by a window that knows nothing, then three guesses and a token by laws that are known.
    assert int(result.stats.target_forwards.max()) <= 16
