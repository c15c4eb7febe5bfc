"""BERT against one written out in NumPy, and any-subset decoding with it."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import any_subset
from jaxdec.model import Inputs, canvas_model, from_nnx
from jaxdec.models import Bert, BertConfig
from jaxdec.models.huggingface import from_tensors, named, to_tensors

pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB, MASK, LENGTH = 11, 4, 10
CONFIG = BertConfig(
    vocab_size=VOCAB,
    width=8,
    layers=2,
    heads=2,
    kv_heads=2,
    head_dim=4,
    hidden=12,
    max_length=16,
    token_types=3,
)
RAW, FRESH = from_nnx(Bert(CONFIG, rngs=nnx.Rngs(0)))
RANDOM = np.random.default_rng(0)
PARAMS = jax.tree.map(
    lambda x: jnp.asarray(RANDOM.normal(size=x.shape) * (0.6 if x.ndim > 1 else 0.3), jnp.float32),
    FRESH,
)
TOKENS, SIZES = RANDOM.integers(0, VOCAB, (2, LENGTH)), np.array([LENGTH, 7])


def numpy_bert(tokens):
    """Logits `[T, V]` of one row in float64, from the tensors by the names that checkpoints have."""
    held = {
        name: np.asarray(x, np.float64)
        for name, x in to_tensors(named("bert"), PARAMS, CONFIG).items()
    }
    linear = lambda x, name: x @ held[name + ".weight"].T + held[name + ".bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)
        return x * held[name + ".weight"] + held[name + ".bias"]

    gelu = np.vectorize(lambda u: u * (1 + math.erf(u / math.sqrt(2))) / 2)
    tables = (
        f"bert.embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")
    )
    words, places, types = (held[name] for name in tables)
    x = norm(words[tokens] + places[: len(tokens)] + types[0], "bert.embeddings.LayerNorm")
    for layer in range(CONFIG.layers):
        at = f"bert.encoder.layer.{layer}."
        query, key, value = (
            linear(x, f"{at}attention.self.{name}").reshape(len(x), CONFIG.heads, -1)
            for name in ("query", "key", "value")
        )
        scores = np.exp(np.einsum("thd,shd->hts", query, key) / math.sqrt(CONFIG.head_dim))
        mixed = np.einsum("hts,shd->thd", scores / scores.sum(-1, keepdims=True), value)
        mixed = linear(mixed.reshape(len(x), -1), at + "attention.output.dense")
        x = norm(x + mixed, at + "attention.output.LayerNorm")
        inner = linear(gelu(linear(x, at + "intermediate.dense")), at + "output.dense")
        x = norm(x + inner, at + "output.LayerNorm")
    x = gelu(linear(x, "cls.predictions.transform.dense"))
    return norm(x, "cls.predictions.transform.LayerNorm") @ words.T + held["cls.predictions.bias"]


def test_logits_are_those_of_numpy():
    places = jnp.broadcast_to(jnp.arange(LENGTH), TOKENS.shape)
    spans = jaxdec.visibility.full(places).where(places < SIZES[:, None])
    found = jax.jit(RAW)(PARAMS, Inputs(jnp.asarray(TOKENS), places, *spans)).logits
    for row, size in enumerate(SIZES):
        np.testing.assert_allclose(
            found[row, :size], numpy_bert(TOKENS[row, :size]), atol=1e-4, rtol=1e-4
        )


@pytest.mark.slow  # rows of masks have tests of their own; this is the network under them
def test_any_subset_by_rows_of_masks():
    """ASSD token for token that of sequential decoding; a query is the canvas with masks at what it does not see."""
    model = any_subset.masked_rows(canvas_model(RAW, MASK), MASK)
    visible = np.zeros(TOKENS.shape, bool)
    visible[0, [0, 4, 9]], visible[1, [2, 5]] = True, True
    fill = functools.partial(
        jaxdec.infill,
        params={"target": PARAMS},
        tokens=TOKENS,
        visible=visible,
        sizes=SIZES,
        rng=jax.random.key(0),
        temperature=1.0,
    )
    sequential = fill(jaxdec.autoregressive(model))
    result = fill(any_subset.assd(model, width=3))
    np.testing.assert_array_equal(result.tokens, sequential.tokens)
    new = SIZES - visible.sum(1)
    assert (np.asarray(result.stats.target_forwards) <= new).all()
    assert (
        np.asarray(sequential.tokens)[~visible & (np.arange(LENGTH) < SIZES[:, None])] != MASK
    ).all()
    canvas = np.where(visible[0], TOKENS[0], MASK)
    logits = numpy_bert(canvas)[1]  # the first place that is filled
    logits = np.delete(logits, MASK)
    law = logits - np.log(np.exp(logits).sum())
    drawn = int(sequential.tokens[0, 1])
    expected = law[drawn - (drawn > MASK)]
    np.testing.assert_allclose(sequential.raw_log_probs[0, 1], expected, atol=1e-4)


def test_a_checkpoint_may_hold_what_other_tasks_need_and_older_names():
    architecture = named("bert")
    assert architecture.config(architecture.fields(CONFIG)) == CONFIG
    tensors = to_tensors(architecture, PARAMS, CONFIG)
    more = {
        "bert.pooler.dense.weight": np.zeros((8, 8)),
        "cls.seq_relationship.bias": np.zeros(2),
        "bert.embeddings.position_ids": np.arange(16),
        "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
    }
    for names in (lambda name: name, older):
        held = {names(name): x for name, x in (tensors | more).items()}
        back = from_tensors(architecture, held, CONFIG)
        jax.tree.map(np.testing.assert_array_equal, back, PARAMS)
    del held["bert.embeddings.LayerNorm.gamma"]
    with pytest.raises(ValueError, match=r"bert\.embeddings\.LayerNorm\.weight. is missing"):
        from_tensors(architecture, held, CONFIG)


def older(name):
    """Names of norms in the first files."""
    if "LayerNorm" not in name:
        return name
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta")


def test_the_mask_is_known_or_named():
    fills = named("bert").fills
    assert fills({"vocab_size": 30522}).mask_token == 103
    assert fills({"vocab_size": 25, "mask_token_id": 0}).mask_token == 0
    with pytest.raises(
        ValueError, match="no mask_token_id, and 103 is that of other vocabularies than one of 25"
    ):
        fills({"vocab_size": 25})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("position_embedding_type", "relative_key", "relative_key. is not supported"),
        ("is_decoder", True, "is_decoder True is not supported"),
        ("hidden_act", "relu", "hidden_act .relu. is not supported, only gelu, gelu_new, silu"),
        ("type_vocab_size", 0, "token_types must be at least 1, got 0"),
        ("intermediate_size", None, "the configuration has no intermediate_size"),
    ],
)
def test_what_is_not_supported(field, value, message):
    architecture = named("bert")
    with pytest.raises(ValueError, match=message):
        architecture.config({**architecture.fields(CONFIG), field: value})
