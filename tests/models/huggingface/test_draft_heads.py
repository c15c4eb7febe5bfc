"""Folders of public draft heads: what they say, what they leave to their target, and what is refused."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import checkpoints
from jaxdec.catalogue import METHODS
from jaxdec.catalogue.assembly import assemble
from jaxdec.checkpoints import Checkpoint
from jaxdec.model import Heads, Inputs, from_nnx, tapped
from jaxdec.models import Transformer, TransformerConfig, huggingface
from jaxdec.models.huggingface import draft_heads, tensors

V, WIDTH = 11, 8
SIZES = {
    "hidden_size": WIDTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "intermediate_size": 12,
    "max_position_embeddings": 64,
    "vocab_size": V,
    "hidden_act": "silu",
}
FIELDS = {
    "eagle3": {**SIZES, "model_type": "llama", "num_hidden_layers": 1, "draft_vocab_size": 5},
    "medusa": {"medusa_num_heads": 2, "base_model_name_or_path": "someone/base"},
    "dflash": {
        **SIZES,
        "architectures": ["DFlashDraftModel"],
        "num_hidden_layers": 2,
        "block_size": 4,
        "dflash_config": {"mask_token_id": 10},
    },
}
INNER = 8


@functools.cache
def target(tied=False):
    config = TransformerConfig(
        vocab_size=V, width=WIDTH, layers=8, heads=2, kv_heads=1, head_dim=4, hidden=12, tied=tied
    )
    model, shapes = from_nnx(nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0))))
    params = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes)
    return Checkpoint("tiny", model, params, config, {})


def layer(at, width, norms):
    shapes = {
        "self_attn.q_proj.weight": (INNER, width),
        "self_attn.k_proj.weight": (4, width),
        "self_attn.v_proj.weight": (4, width),
        "self_attn.o_proj.weight": (WIDTH, INNER),
        "mlp.gate_proj.weight": (12, WIDTH),
        "mlp.up_proj.weight": (12, WIDTH),
        "mlp.down_proj.weight": (WIDTH, 12),
        **{
            f"{norm}.weight": (4 if "_norm" in norm and "attn" in norm else WIDTH,)
            for norm in norms
        },
    }
    return {f"{at}.{name}": shape for name, shape in shapes.items()}


def shapes_of(kind):
    """Tensors, listed by hand."""
    norms = ["input_layernorm", "post_attention_layernorm"]
    if kind == "medusa":
        heads = range(3)  # more than the configuration says
        return {
            **{f"{k}.0.linear.weight": (WIDTH, WIDTH) for k in heads},
            **{f"{k}.0.linear.bias": (WIDTH,) for k in heads},
            **{f"{k}.1.weight": (V, WIDTH) for k in heads},
        }
    if kind == "eagle3":
        return {
            **layer("midlayer", 2 * WIDTH, [*norms, "hidden_norm"]),
            "fc.weight": (WIDTH, 3 * WIDTH),
            "norm.weight": (WIDTH,),
            "lm_head.weight": (5, WIDTH),
        }
    norms += ["self_attn.q_norm", "self_attn.k_norm"]
    return {
        **layer("layers.0", WIDTH, norms),
        **layer("layers.1", WIDTH, norms),
        "fc.weight": (WIDTH, 2 * WIDTH),
        "hidden_norm.weight": (WIDTH,),
        "norm.weight": (WIDTH,),
    }


def arrays_of(kind, seed=0):
    rng = np.random.default_rng(seed)
    found = {
        name: (0.5 * rng.normal(size=shape)).astype(np.float32)
        for name, shape in shapes_of(kind).items()
    }
    if kind == "eagle3":
        kept = np.array([0, 2, 3, 7, 9])
        found |= {"d2t": kept - np.arange(5), "t2d": np.isin(np.arange(V), kept)}
    return found


def write(folder, kind, arrays=None, **fields):
    folder.mkdir(exist_ok=True)
    tensors.write(folder, arrays_of(kind) if arrays is None else arrays)
    (folder / "config.json").write_text(json.dumps({**FIELDS[kind], **fields}))
    return folder


def test_eagle3(tmp_path):
    held = checkpoints.load_any(write(tmp_path, "eagle3"), target())
    assert (held.kind, held.target, held.config.taps) == ("eagle3", "tiny", (2, 4, 5))
    assert held.model.taps == (2, 4, 5) and held.model.vocab_size == V
    # Shared, not copied.
    own = target().params["embed_tokens"]["embedding"]
    assert held.params["embed_tokens"]["embedding"] is own
    np.testing.assert_array_equal(held.params["d2t"] + np.arange(5), [0, 2, 3, 7, 9])
    inputs = Inputs.causal(jnp.ones((1, 2), jnp.int32), features=jnp.ones((1, 2, WIDTH)))
    output = jax.jit(held.model.forward)(held.params, inputs)
    logits = np.asarray(output.logits)
    assert np.flatnonzero(np.isfinite(logits[0, 0])).tolist() == [0, 2, 3, 7, 9]
    arrays = arrays_of("eagle3")
    x = np.asarray(output.hidden[0, 0])
    normed = x / np.sqrt(np.mean(x * x) + 1e-6) * arrays["norm.weight"]
    np.testing.assert_allclose(
        logits[0, 0, [0, 2, 3, 7, 9]], arrays["lm_head.weight"] @ normed, rtol=1e-4, atol=1e-5
    )


def test_eagle3_says_more(tmp_path):
    """Layers by what leaves them, a whole vocabulary, embeddings of its own, other names, bfloat16 as the target's."""
    arrays = {name: x for name, x in arrays_of("eagle3").items() if name not in ("d2t", "t2d")}
    arrays |= {"lm_head.weight": np.ones((V, WIDTH), np.float32)}
    arrays |= {"embed_tokens.weight": np.ones((V, WIDTH), np.float32)}
    arrays = {name.replace("midlayer", "layers.0"): x for name, x in arrays.items()}
    layers = {"eagle_config": {"eagle_aux_hidden_state_layer_ids": [0, 3, 6]}}
    write(tmp_path, "eagle3", arrays, draft_vocab_size=V, **layers)
    small = jax.tree.map(lambda x: x.astype(jnp.bfloat16), target().params)
    held = checkpoints.load_heads(tmp_path, dataclasses.replace(target(), params=small))
    assert held.config.taps == (1, 4, 7) and held.config.draft_vocab_size is None
    assert {x.dtype for x in jax.tree.leaves(held.params)} == {jnp.dtype(jnp.bfloat16)}
    assert (held.params["embed_tokens"]["embedding"] == 1).all()


def test_medusa(tmp_path):
    write(tmp_path, "medusa")
    held = checkpoints.load_heads(tmp_path)
    assert isinstance(held.heads, Heads)
    assert (held.kind, held.heads.heads, held.target) == ("medusa", 3, "someone/base")
    arrays, hidden = arrays_of("medusa"), np.linspace(-1, 1, WIDTH).astype(np.float32)
    for k in range(3):
        y = arrays[f"{k}.0.linear.weight"] @ hidden + arrays[f"{k}.0.linear.bias"]
        expected = arrays[f"{k}.1.weight"] @ (hidden + y / (1 + np.exp(-y)))
        law = held.heads.law(held.params, jnp.asarray(hidden), jnp.zeros(k + 1, jnp.int32))
        np.testing.assert_allclose(law, expected, rtol=1e-4, atol=1e-5)
    assert checkpoints.load_any(tmp_path, target()).target == "tiny"


@pytest.mark.parametrize("tied", [False, True])
def test_dflash(tmp_path, tied):
    held = checkpoints.load_heads(write(tmp_path, "dflash"), target(tied))
    assert held.config.taps == (2, 6) and held.block_size == 4
    assert held.model.canvas and held.model.mask_token == 10
    lent = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    assert ("lm_head" in held.params) == (not tied)
    for name in lent:
        own, mine = (jax.tree.leaves(p[name]) for p in (target(tied).params, held.params))
        assert own[0] is mine[0]


@pytest.mark.parametrize("kind", ["eagle3", "medusa", "dflash"])
def test_saved_and_loaded(tmp_path, kind):
    held = checkpoints.load_heads(write(tmp_path / "a", kind), target())
    huggingface.save(tmp_path / "b", held.params, held.config, kind)
    again = checkpoints.load_heads(tmp_path / "b", target())
    assert again.config == held.config and again.heads == held.heads
    jax.tree.map(np.testing.assert_array_equal, again.params, held.params)
    network = draft_heads.network(huggingface.named(kind), held.config, jnp.float32)
    assert network == held.heads  # loads share every compiled program


def changed(kind, **arrays):
    return {**arrays_of(kind), **arrays}


@pytest.mark.parametrize(
    ("kind", "arrays", "fields", "model", "message"),
    [
        ("eagle3", {}, {}, None, "give the target"),
        ("dflash", {}, {}, None, "give the target"),
        ("eagle3", {}, {}, dict(vocab_size=12), "vocab_size is 11, the target's is 12"),
        ("eagle3", {}, {}, dict(layers=2), "at least 3 layers, got one of 2"),
        ("eagle3", {}, {"target_hidden_size": 16}, {}, "target_hidden_size is 16, .* is 8"),
        ("eagle3", {}, {"norm_before_residual": True}, {}, "norm_before_residual True"),
        ("eagle3", {"d2t": np.array([0, 2, 3, 7, 9])}, {}, {}, r"'d2t' must hold offsets"),
        ("eagle3", {"t2d": np.ones(V, bool)}, {}, {}, "'t2d' names other tokens"),
        ("eagle3", {"extra": np.ones(2)}, {}, {}, "'extra' is unknown to eagle3"),
        ("eagle3", {"fc.weight": np.ones((8, 16))}, {}, {}, r"'fc.weight' has shape \[8, 16\]"),
        ("medusa", {}, {"medusa_num_layers": 2}, {}, r"no tensor '0\.2\.weight'"),
        ("medusa", {}, {}, dict(width=12), "have width 8, the target 12"),
        ("dflash", {}, {"num_target_layers": 9}, {}, "num_target_layers is 9, the target's is 8"),
        ("dflash", {}, {"dflash_config": {}}, {}, "no mask_token_id"),
        ("dflash", {}, {"layer_types": ["sliding_attention"]}, {}, "only full_attention"),
        ("dflash", {}, {"block_size": 1}, {}, "block must be at least 2, got 1"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, kind, arrays, fields, model, message):
    write(tmp_path, kind, changed(kind, **arrays), **fields)
    held = target()
    held = dataclasses.replace(held, config=dataclasses.replace(held.config, **(model or {})))
    with pytest.raises(ValueError, match=message):
        checkpoints.load_heads(tmp_path, None if model is None else held)


def test_a_model_is_none(tmp_path):
    for kind in FIELDS:
        folder = write(tmp_path / kind, kind)
        with pytest.raises(ValueError, match=f"{kind} draft heads, which are no model"):
            checkpoints.load(folder)
    (tmp_path / "medusa" / "model.safetensors").rename(tmp_path / "medusa" / "medusa_lm_head.pt")
    with pytest.raises(ValueError, match=r"medusa_lm_head.pt is pickled"):
        checkpoints.load_heads(tmp_path / "medusa")


def test_methods_take_folders(tmp_path):
    layers = {"eagle3": (2, 4, 5), "dflash": (2, 6)}
    for name, kind in (("eagle-3", "eagle3"), ("dflash-token", "dflash")):
        folder = str(write(tmp_path / kind, kind))
        decoder, params = assemble(METHODS[name], target(), draft=folder, length=9, nodes=9)
        assert decoder.model == tapped(target().model, layers[kind])
        assert decoder.drafter.depth == {"eagle3": 8, "dflash": 3}[kind]
        jaxdec.prepare(decoder, params, [[1, 2, 3]], max_new_tokens=4)
        with pytest.raises(ValueError, match="draft model's capacity is 64"):
            jaxdec.prepare(decoder, params, [[1, 2, 3]], max_new_tokens=62)
