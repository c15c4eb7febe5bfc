"""A plain Python loop over one row of a canvas at temperature 0, with the laws of the oracle: what twins stand on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.model import Inputs, Queries
from tests.diffusion.canvases import VOCAB, oracle

LONGEST = 64
"""Positions that are scored; more are not needed."""


@functools.cache
def _scores():
    model, _ = oracle()

    @jax.jit
    def scores(params, tokens, known):
        positions = jnp.arange(LONGEST)[None]
        spans = visibility.full(positions).where(known)
        asked = Queries(positions, visibility.full(positions).query_spans, jnp.array([LONGEST]))
        return model(params, Inputs(tokens, positions, *spans, asked), None).logits[0]

    return scores


def laws(row):
    """float64 `[n, V]`, the law at each position of a row of tokens and None for masks, given all that is known."""
    tokens = [0 if token is None else token for token in row] + [0] * (LONGEST - len(row))
    known = [token is not None for token in row] + [False] * (LONGEST - len(row))
    logits = _scores()(oracle()[1], jnp.array([tokens]), jnp.array([known]))
    return np.asarray(jax.nn.softmax(logits), np.float64)[: len(row), :VOCAB]


def above(law, where, threshold):
    """The positions above a threshold, and the surest."""
    best = max(where, key=lambda i: (law[i].max(), -i))
    return sorted({best, *(i for i in where if law[i].max() > threshold)})
