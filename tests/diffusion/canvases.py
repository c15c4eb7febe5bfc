"""What the tests of this folder decode: oracles and tiny transformers, on three ragged rows."""

import functools

import jax
import numpy as np
from flax import nnx

from jaxdec import generation
from jaxdec.diffusion import canvas_model
from jaxdec.model import from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.testing import oracles

VOCAB = 8
PROMPTS = np.random.default_rng(0).integers(0, VOCAB, (3, 13))
LENGTHS = np.array([13, 5, 1])
BUDGET = np.array([24, 17, 30])


@functools.cache
def oracle(canvas=False):
    """An oracle that answers queries, or one that reads masks; the same laws."""
    model, params = oracles.hash_oracle(VOCAB, seed=0, scale=1.5)
    return oracles.canvas(model) if canvas else model, params


@functools.cache
def transformer(layer_states=()):
    """Random weights, large enough that no two positions have almost the same law."""
    config = TransformerConfig(
        vocab_size=VOCAB + 1, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=16
    )
    model, params = from_nnx(Transformer(config, rngs=nnx.Rngs(3)), layer_states=layer_states)
    scale = lambda path, x: x * (40 if "embed" in str(path) else 3 if x.ndim == 2 else 1)
    return canvas_model(model, VOCAB), jax.tree_util.tree_map_with_path(scale, params)


def decode(decoder, params, **options):
    given = dict(
        prompt=PROMPTS, lengths=LENGTHS, max_new_tokens=BUDGET, rng=jax.random.key(7), eos=()
    )
    return generation.generate(decoder, params, **{**given, **options})


def texts(result):
    """Tokens of each row."""
    pairs = zip(np.asarray(result.tokens), np.asarray(result.lengths), strict=True)
    return [row[:length].tolist() for row, length in pairs]


def same(first, second, *, steps=True):
    """Asserts equal tokens, statuses, log-probabilities and (unless told otherwise) steps."""
    assert texts(first) == texts(second)
    assert first.status == second.status
    np.testing.assert_allclose(first.log_probs, second.log_probs, rtol=1e-4, atol=1e-4)
    if steps:
        np.testing.assert_array_equal(first.steps, second.steps)


def forwards(result):
    return np.asarray(result.stats.target_forwards).tolist()
