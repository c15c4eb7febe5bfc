"""`check_model`: right models of every kind pass, and a model with one fault fails by the check for it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxdec import visibility
from jaxdec.diffusion import canvas_model
from jaxdec.model import (
    Inputs,
    Output,
    early_exit,
    from_nnx,
    masked_rows,
    next_token,
    recomputed,
    two_stream,
)
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.testing import check_model, oracles
from tests.model.learned_positions import Config, LearnedPositions

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = TransformerConfig(
    vocab_size=11, width=8, layers=2, heads=2, kv_heads=1, head_dim=4, hidden=8, window=9
)
NETWORK, PARAMS = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
PARAMS = jax.tree.map(lambda x: 3 * x, PARAMS)
LEARNED, TABLES = from_nnx(LearnedPositions(Config(max_length=14), nnx.Rngs(0)))
MODELS = {
    "network": (NETWORK, PARAMS),
    "learned positions": (LEARNED, TABLES),
    "short": from_nnx(LearnedPositions(Config(max_length=6), nnx.Rngs(0))),
    "early exit": (early_exit(NETWORK, 1), PARAMS),
    "two streams": (two_stream(NETWORK, 10), PARAMS),
    "masked rows": (masked_rows(NETWORK, 10), PARAMS),
    "recomputed": (recomputed(two_stream(NETWORK, 10)), PARAMS),
    "canvas": (canvas_model(NETWORK, 10), PARAMS),
    "next token": (next_token(canvas_model(LEARNED, 10)), TABLES),
    "recurrent": oracles.recurrent_oracle(7),
    "set": oracles.hash_oracle(7),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_keep_the_contract(name):
    check_model(*MODELS[name])


@dataclasses.dataclass(frozen=True)
class Broken:
    """A forward with a fault in what it reads or returns."""

    read: Callable[[Inputs, Any], tuple[Inputs, Any]] = lambda inputs, cache: (inputs, cache)
    give: Callable[[Output], Output] = lambda output: output

    def __call__(self, params, inputs, cache=None):
        inputs, cache = self.read(inputs, cache)
        return self.give(LEARNED.forward(params, inputs, cache))


def reads(**changes):
    """With other spans or positions."""
    return Broken(
        read=lambda inputs, cache: (
            dataclasses.replace(inputs, **{k: f(inputs) for k, f in changes.items()}),
            cache,
        )
    )


def gives(change):
    """With other logits."""
    return Broken(give=lambda output: dataclasses.replace(output, logits=change(output.logits)))


def by_slot(inputs):
    """Causal by the order of the inputs, whatever the spans say; padding stays hidden."""
    start, stop = inputs.key_spans[..., 0], inputs.key_spans[..., 1]
    return jnp.stack([start, jnp.where(stop < 0, stop, visibility.FOREVER)], axis=-1)


def everyone(inputs):
    """Padding too."""
    padded = inputs.key_spans[..., 1:] < 0
    return jnp.where(padded, visibility.causal(inputs.positions).key_spans, inputs.key_spans)


class Unhashable:
    __hash__ = None

    def __call__(self, params, inputs, cache=None):
        return LEARNED.forward(params, inputs, cache)


def spread(logits):
    return logits + jnp.mean(logits, axis=0)


FAULTS = {
    "logits are bfloat16": gives(lambda logits: logits.astype(jnp.bfloat16)),
    r"expected \[B, T, V\] = \[3, 12, 11\]": gives(lambda logits: logits[..., :-1]),
    r"logits are NaN at \(row, token\) \(0, 4\)": gives(
        lambda logits: logits.at[0, 4:5].set(jnp.nan)
    ),
    "scoring a token over a cache differs": Broken(read=lambda inputs, cache: (inputs, None)),
    "scoring a token over a cache": reads(
        positions=lambda inputs: inputs.positions - inputs.positions[:, :1]
    ),
    r"node 1 of a tree|node 2 of a tree": reads(key_spans=by_slot),
    "padding is seen": reads(key_spans=everyone),
    "row 0 depends on its neighbours": gives(spread),
    "cannot be hashed": Unhashable(),
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_are_found(message):
    with pytest.raises(AssertionError, match=message):
        check_model(dataclasses.replace(LEARNED, forward=FAULTS[message]), TABLES)


CACHES = {
    "has a capacity of 15": lambda batch, capacity: LEARNED.init_cache(batch, capacity + 1),
    r"lengths \[1, 1, 1\]": lambda batch, capacity: dataclasses.replace(
        LEARNED.init_cache(batch, capacity), length=jnp.ones(batch, jnp.int32)
    ),
    "is the row": lambda batch, capacity: LEARNED.init_cache(batch + 1, capacity),
    "an empty cache changes": lambda batch, capacity: LEARNED.init_cache(batch, capacity).renumber(
        lambda spans: jnp.zeros_like(spans)
    ),
}


@pytest.mark.parametrize("message", CACHES)
def test_faults_of_a_cache_are_found(message):
    with pytest.raises(AssertionError, match=message):
        check_model(dataclasses.replace(LEARNED, init_cache=CACHES[message]), TABLES)


def test_a_table_of_positions_that_is_too_short_is_found():
    with pytest.raises(
        AssertionError, match="position 15 are NaN, but the model says max_length 16"
    ):
        check_model(dataclasses.replace(LEARNED, max_length=16), TABLES)


def test_an_end_of_sequence_outside_of_the_vocabulary_is_refused():
    for eos in (11, [3, -1], "a", 2.5, [2.5], None):
        with pytest.raises(ValueError, match="eos"):
            dataclasses.replace(LEARNED, eos=eos)
    assert dataclasses.replace(LEARNED, eos=2).eos == (2,)
    assert dataclasses.replace(LEARNED, eos=jnp.asarray([2, 3])).eos == (2, 3)
    for change in (
        dict(vocab_size=0),
        dict(vocab_size="a"),
        dict(max_length=0),
        dict(max_length=1.5),
    ):
        with pytest.raises(ValueError, match="must be an integer of at least 1"):
            dataclasses.replace(LEARNED, **change)
