"""XLNet against one written out in NumPy, one pair of places at a time; and what decoders rely on."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import any_subset
from jaxdec.model import early_exit, from_nnx, prompt_inputs, score
from jaxdec.models import XLNet, XLNetConfig
from jaxdec.models.huggingface import from_tensors, named, to_tensors
from jaxdec.models.xlnet import position_columns, relative_queries
from jaxdec.testing import check_model

pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB, MASK, LENGTH = 13, 6, 12
CONFIG = XLNetConfig(vocab_size=VOCAB, width=8, layers=2, heads=2, head_dim=4, hidden=12)
RAW, FRESH = from_nnx(XLNet(CONFIG, rngs=nnx.Rngs(0)))
RANDOM = np.random.default_rng(0)
# Larger weights than fresh ones, biases too: laws that depend on what is seen, and where.
PARAMS = jax.tree.map(
    lambda x: jnp.asarray(RANDOM.normal(size=x.shape) * (0.6 if x.ndim > 1 else 0.3), jnp.float32),
    FRESH,
)
MODEL = any_subset.two_stream(RAW, MASK)
TOKENS = RANDOM.integers(
    0, VOCAB, (3, LENGTH)
)  # content may hold the mask token: it is a token like others
SIZES, SHOWN = np.array([LENGTH, 9, 5]), np.array([4, 1, 3])


def orders():
    """Random visible sets and random orders in ragged rows, `(visible, ranks)`."""
    visible, ranks = np.zeros((3, LENGTH), bool), np.zeros((3, LENGTH), int)
    for row, (size, shown) in enumerate(zip(SIZES, SHOWN, strict=True)):
        places = RANDOM.permutation(size)
        visible[row, places[:shown]] = True
        ranks[row, places] = np.arange(size)
    return visible, ranks


VISIBLE, RANKS = orders()
ORDER = any_subset.fixed_order(RANKS, VISIBLE, SIZES)


def numpy_xlnet(tokens, content_sees, asked=(), query_sees=()):
    """Logits in float64 of content `[T, V]` and of queries at the places `asked`; all in one segment.

    Args:
      tokens: of the places 0, 1, ...
      content_sees: by place, the places that its content sees.
      asked: places in question.
      query_sees: for each of these, the places that its query sees.
    """
    weights = jax.tree.map(lambda x: np.asarray(x, np.float64), PARAMS)
    width, half = CONFIG.width, CONFIG.width // 2
    frequencies = 1 / 10000 ** (np.arange(half) * 2 / width)

    def relative(distance):  # the encoding of one difference
        return np.concatenate([np.sin(distance * frequencies), np.cos(distance * frequencies)])

    def norm(x, held):
        return (x - x.mean()) / np.sqrt(x.var() + 1e-12) * held["scale"] + held["bias"]

    def after(x, place, sees, known, layer):
        held, forward = layer["rel_attn"], layer["ff"]
        mixed = x.copy()
        for head in range(CONFIG.heads):
            part = lambda name, head=head: held[name][:, head]
            query = x @ part("q")
            scores = []
            for other in sees:
                pair = (query + held["r_w_bias"][head]) @ (known[other] @ part("k"))
                pair += (query + held["r_r_bias"][head]) @ (relative(place - other) @ part("r"))
                pair += (query + held["r_s_bias"][head]) @ held["seg_embed"][0, head]
                scores.append(pair / math.sqrt(CONFIG.head_dim))
            law = np.exp(np.array(scores) - max(scores))
            value = law / law.sum() @ np.stack([known[other] @ part("v") for other in sees])
            mixed += part("o") @ value
        x = norm(mixed, held["layer_norm"])
        inner = x @ forward["layer_1"]["kernel"] + forward["layer_1"]["bias"]
        inner = inner * np.array([(1 + math.erf(u / math.sqrt(2))) / 2 for u in inner])
        out = inner @ forward["layer_2"]["kernel"] + forward["layer_2"]["bias"]
        return norm(x + out, forward["layer_norm"])

    content = list(weights["word_embedding"]["embedding"][tokens])
    queries = [weights["mask_emb"]] * len(asked)
    for _, layer in sorted(weights["layers"].items()):
        known = content
        content = [after(x, i, content_sees[i], known, layer) for i, x in enumerate(content)]
        queries = [
            after(x, i, sees, known, layer)
            for x, i, sees in zip(queries, asked, query_sees, strict=True)
        ]
    head = lambda xs: (
        np.array(xs) @ weights["word_embedding"]["embedding"].T + weights["lm_loss"]["bias"]
    )
    return head(content), head(queries) if queries else None


def test_differences_of_positions_are_products_of_columns():
    """Far apart, near, in both directions, against the difference itself in float64."""
    width, random = 16, np.random.default_rng(1)
    places = np.array([[0, 1, 7, 300, 1023]])
    mapped = random.normal(size=(1, 2, 5, width))
    columns = position_columns(jnp.asarray(places), width)
    rotated = relative_queries(jnp.asarray(mapped, jnp.float32), *columns)
    assert rotated.dtype == jnp.float32
    found = jnp.einsum("bhte,bse->bhts", rotated, jnp.concatenate(columns, -1))
    angles = (places[0, :, None] - places[0])[..., None] / 10000 ** (np.arange(0, width, 2) / width)
    encoding = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    expected = np.einsum("bhtc,tsc->bhts", mapped, encoding)
    np.testing.assert_allclose(found, expected, atol=5e-4)
    exact = np.array([[0, 1, 7, 12, 15]])
    columns = position_columns(jnp.asarray(exact), width)
    found = jnp.einsum(
        "bhte,bse->bhts",
        relative_queries(jnp.asarray(mapped, jnp.float32), *columns),
        jnp.concatenate(columns, -1),
    )
    angles = (exact[0, :, None] - exact[0])[..., None] / 10000 ** (np.arange(0, width, 2) / width)
    encoding = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    np.testing.assert_allclose(found, np.einsum("bhtc,tsc->bhts", mapped, encoding), atol=1e-5)


def test_queries_in_a_random_order_are_those_of_numpy():
    """Ragged rows; the segment term, which the twin adds, changes nothing."""
    ranked = np.take_along_axis(TOKENS, np.asarray(ORDER.places), axis=1)
    inputs = prompt_inputs(jnp.asarray(ranked), jnp.asarray(SIZES), ORDER, visible=ORDER.visible)
    found = np.asarray(jax.jit(score, static_argnums=0)(MODEL, PARAMS, inputs, None, ORDER).logits)
    assert np.isneginf(found[..., MASK]).all()
    for row, (size, shown) in enumerate(zip(SIZES, SHOWN, strict=True)):
        ranks = RANKS[row, :size]
        sees = lambda rank, ranks=ranks, shown=shown: np.flatnonzero(ranks < max(rank + 1, shown))
        asked = [int(np.flatnonzero(ranks == rank)[0]) for rank in range(shown, size)]
        _, expected = numpy_xlnet(
            TOKENS[row, :size],
            [sees(rank) for rank in ranks],
            asked,
            [np.flatnonzero(ranks < rank) for rank in range(shown, size)],
        )
        expected[:, MASK] = -np.inf
        np.testing.assert_allclose(found[row, shown - 1 : size - 1], expected, atol=1e-4)


def test_content_alone_is_that_of_numpy():
    """Without queries, each place sees the row whole; the last places of a row are padding."""
    places = jnp.broadcast_to(jnp.arange(LENGTH), TOKENS.shape)
    spans = jaxdec.visibility.full(places).where(places < SIZES[:, None])
    found = jax.jit(RAW)(PARAMS, jaxdec.Inputs(jnp.asarray(TOKENS), places, *spans)).logits
    for row, size in enumerate(SIZES):
        expected, _ = numpy_xlnet(TOKENS[row, :size], [range(size)] * size)
        np.testing.assert_allclose(found[row, :size], expected, atol=1e-4)


def test_the_contract():
    """Of the first layer alone, which is a model too: decoding, below, runs both."""
    check_model(any_subset.two_stream(early_exit(RAW, 1), MASK), PARAMS)


def fill(decoder, **knobs):
    knobs = {"temperature": 1.0, "rng": jax.random.key(1), "sizes": SIZES, "ranks": RANKS, **knobs}
    return jaxdec.infill(decoder, {"target": PARAMS}, TOKENS, VISIBLE, **knobs)


def test_any_subset_decoding_is_sequential_decoding():
    """ASSD token for token, forwards no more than tokens, and the cache against one whole forward."""
    sequential = fill(jaxdec.autoregressive(MODEL))
    result = fill(any_subset.assd(MODEL, width=3))
    np.testing.assert_array_equal(result.tokens, sequential.tokens)
    np.testing.assert_allclose(result.raw_log_probs, sequential.raw_log_probs, atol=2e-4)
    new = SIZES - SHOWN
    assert (np.asarray(result.stats.target_forwards) <= new).all()
    assert np.asarray(result.stats.target_forwards).sum() < new.sum()
    terms = any_subset.log_prob(MODEL, PARAMS, jnp.asarray(sequential.tokens), ORDER)
    np.testing.assert_allclose(terms, sequential.raw_log_probs, atol=2e-4)
    drawn = np.asarray(sequential.tokens)[(np.arange(LENGTH) < SIZES[:, None]) & ~VISIBLE]
    assert (drawn != MASK).all() and len(set(drawn)) > 3


def test_a_cut_network_reads_its_first_layers():
    cut = early_exit(RAW, 1)
    inputs = jaxdec.Inputs.causal(jnp.asarray(TOKENS))
    watched = from_nnx(XLNet(CONFIG, rngs=nnx.Rngs(0)), layer_states=[1])[0]
    output = jax.jit(lambda: (cut(PARAMS, inputs).hidden, watched(PARAMS, inputs).layer_states))()
    np.testing.assert_allclose(output[0], output[1][0], atol=1e-6)


def test_names_of_checkpoints():
    """Every tensor of the published files, and no other; the tied head may be there or not."""
    architecture = named("xlnet")
    tensors = to_tensors(architecture, PARAMS, CONFIG)
    held = {name: list(x.shape) for name, x in tensors.items() if "layer.1" not in name}
    at = "transformer.layer.0."
    heads = {f"{at}rel_attn.{name}": [8, 2, 4] for name in "qkvor"}
    heads |= {f"{at}rel_attn.r_{name}_bias": [2, 4] for name in "wrs"}
    norms = [
        f"{at}{part}.layer_norm.{name}"
        for part in ("rel_attn", "ff")
        for name in ("weight", "bias")
    ]
    assert held == heads | {name: [8] for name in norms} | {
        "transformer.word_embedding.weight": [VOCAB, 8],
        "transformer.mask_emb": [1, 1, 8],
        f"{at}rel_attn.seg_embed": [2, 2, 4],
        f"{at}ff.layer_1.weight": [12, 8],
        f"{at}ff.layer_1.bias": [12],
        f"{at}ff.layer_2.weight": [8, 12],
        f"{at}ff.layer_2.bias": [8],
        "lm_loss.bias": [VOCAB],
    }
    copy = {"lm_loss.weight": tensors["transformer.word_embedding.weight"]}
    back = from_tensors(architecture, tensors | copy, CONFIG)
    jax.tree.map(np.testing.assert_array_equal, back, PARAMS)
    assert architecture.config(architecture.fields(CONFIG)) == CONFIG
    fills = architecture.fills({})
    wrapped = fills(dataclasses.replace(RAW, eos=(2,)))
    assert fills.mask_token == 6 and wrapped.any_subset and wrapped.eos == ()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("attn_type", "uni", "attn_type 'uni' is not supported, only 'bi'"),
        ("bi_data", True, "bi_data True is not supported"),
        ("clamp_len", 400, "clamp_len 400 is not supported, only -1"),
        ("ff_activation", "relu", "ff_activation 'relu' is not supported, only gelu, gelu_new"),
        ("d_inner", None, "the configuration has no d_inner"),
    ],
)
def test_what_is_not_supported(field, value, message):
    architecture = named("xlnet")
    with pytest.raises(ValueError, match=message):
        architecture.config({**architecture.fields(CONFIG), field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("heads", 0, "heads must be at least 1, got 0"),
        ("max_length", 0, "max_length must be at least 1, got 0"),
        ("width", 9, "width must be even for relative positions, got 9"),
        ("activation", "swish", "one of silu, gelu, gelu_tanh, got 'swish'"),
    ],
)
def test_impossible_sizes(field, value, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **{field: value})
