"""A model that knows all solutions, decoded: as often right as the limits say."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import text
from jaxdec.diffusion import denoise, unmask
from jaxdec.model import Inputs
from jaxdec.testing import oracles
from jaxdec.testing.listed import listed
from jaxdec.training.filling import fill
from jaxdec.training.tasks import Problem, Shuffle, in_groups
from jaxdec.training.tasks.canvases import laid_out

TASK, PROMPT = Shuffle((4, 4)), "Habcd\n"


@pytest.mark.slow
def test_so_many_tokens_a_forward_are_right_as_often_as_they_can_be():
    rows = [laid_out(TASK, Problem(PROMPT, one))[0] for one in TASK.solutions(PROMPT)]
    model, params = listed(rows, text.VOCAB_SIZE)
    decoder = denoise(
        oracles.canvas(model, mask_token=text.MASK), unmask=unmask.quota("left_to_right")
    )
    for count in (1, 2, 3, 6):
        found = fill(
            decoder,
            {"target": params},
            TASK,
            [Problem(PROMPT, "")] * 400,
            temperature=1.0,
            steps=6 // count,
        )
        groups = [range(at, min(at + count, 4)) for at in range(0, 4, count)]
        expected = in_groups([one[:4] for one in TASK.solutions(PROMPT)], groups)
        spread = math.sqrt(max(expected * (1 - expected), 1e-6) / 400)
        assert abs(found.right.mean() - expected) < 4 * spread, (count, expected)
        assert (found.forwards == 6 // count).all()
        assert expected <= TASK.at_best(4, 6 // count) + 1e-9
        if count < 6:  # who ends too early writes fewer
            assert (found.tokens == 6).all()


def test_a_listed_law_is_that_of_the_sequences_that_agree():
    sequences = [(5, 1, 2, 3), (5, 1, 3, 3), (5, 2, 2, 1), (6, 2, 2, 2)]
    model, params = listed(sequences, 8)
    filled = oracles.canvas(model, mask_token=7)
    tokens = jnp.array([[5, 7, 7, 3], [7, 2, 7, 7], [7, 7, 7, 7], [6, 1, 7, 7]])
    places = jnp.broadcast_to(jnp.arange(4), tokens.shape)
    spans = jnp.zeros((4, 4, 2), jnp.int32)
    logits = np.asarray(filled(params, Inputs(tokens, places, spans, spans), None).logits)
    law = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    np.testing.assert_allclose(law[0, 1], np.eye(8)[1], atol=1e-6)
    np.testing.assert_allclose(law[0, 2], (np.eye(8)[2] + np.eye(8)[3]) / 2, atol=1e-6)
    np.testing.assert_allclose(law[1, 0], (np.eye(8)[5] + np.eye(8)[6]) / 2, atol=1e-6)
    np.testing.assert_allclose(law[2, 0], 0.75 * np.eye(8)[5] + 0.25 * np.eye(8)[6], atol=1e-6)
    np.testing.assert_allclose(law[3, 2], np.isin(np.arange(8), [1, 2, 3, 5, 6]) / 5, atol=1e-6)


@pytest.mark.parametrize(
    ("sequences", "said"),
    [
        ([], "some, different"),
        ([(1, 2), (1, 2)], "different"),
        ([(1, 2), (1,)], "one length"),
        ([(1, 8)], "0 to 7"),
    ],
)
def test_refusals(sequences, said):
    with pytest.raises(ValueError, match=said):
        listed(sequences, 8)
