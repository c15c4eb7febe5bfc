"""Llama weights by their Hugging Face names, against a Llama written out in NumPy."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec.models import Transformer, TransformerConfig, from_llama, llama_config, load_llama
from jaxdec.models import to_llama as to_tensors

pytestmark = pytest.mark.usefixtures("quick_compilation")

HF = {
    "model_type": "llama",
    "vocab_size": 13,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 64,
    "rope_theta": 500.0,
    "rms_norm_eps": 1e-4,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "attention_bias": False,
    "rope_scaling": None,
    "eos_token_id": 3,
}
CONFIG = llama_config(HF)


def random_tensors(config, seed=0):
    """Tensors of a Llama checkpoint, listed by hand; weights are [outputs, inputs]."""
    rng = np.random.default_rng(seed)
    inner, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes = {
        "model.embed_tokens.weight": (config.vocab_size, config.width),
        "model.norm.weight": (config.width,),
    }
    if not config.tied:
        shapes["lm_head.weight"] = (config.vocab_size, config.width)
    for i in range(config.layers):
        at = f"model.layers.{i}."
        shapes |= {
            at + "input_layernorm.weight": (config.width,),
            at + "post_attention_layernorm.weight": (config.width,),
            at + "self_attn.q_proj.weight": (inner, config.width),
            at + "self_attn.k_proj.weight": (kv, config.width),
            at + "self_attn.v_proj.weight": (kv, config.width),
            at + "self_attn.o_proj.weight": (config.width, inner),
            at + "mlp.gate_proj.weight": (config.hidden, config.width),
            at + "mlp.up_proj.weight": (config.hidden, config.width),
            at + "mlp.down_proj.weight": (config.width, config.hidden),
        }
    return {name: (rng.normal(size=s) * 0.5).astype(np.float32) for name, s in shapes.items()}


def numpy_llama(tensors, hf, tokens):
    """Logits [T, V] of one sequence in float64: one token, one head, one pair at a time."""
    weights = {name: x.astype(np.float64) for name, x in tensors.items()}
    heads, kv_heads = hf["num_attention_heads"], hf["num_key_value_heads"]
    dim = hf["hidden_size"] // heads

    def norm(x, weight):
        return x / np.sqrt(np.mean(x * x) + hf["rms_norm_eps"]) * weight

    def rotate(x, position):
        out = np.empty(dim)
        for i in range(dim // 2):
            angle = position / hf["rope_theta"] ** (2 * i / dim)
            a, b = x[i], x[i + dim // 2]
            out[i] = a * math.cos(angle) - b * math.sin(angle)
            out[i + dim // 2] = b * math.cos(angle) + a * math.sin(angle)
        return out

    states = [weights["model.embed_tokens.weight"][t] for t in tokens]
    for layer in range(hf["num_hidden_layers"]):
        get = lambda name, layer=layer: weights[f"model.layers.{layer}.{name}.weight"]
        keys, values, after = [], [], []
        for place, x in enumerate(states):
            y = norm(x, get("input_layernorm"))
            q = (get("self_attn.q_proj") @ y).reshape(heads, dim)
            k = (get("self_attn.k_proj") @ y).reshape(kv_heads, dim)
            keys.append([rotate(head, place) for head in k])
            values.append((get("self_attn.v_proj") @ y).reshape(kv_heads, dim))
            mixed = []
            for h in range(heads):
                shared = h // (heads // kv_heads)
                query = rotate(q[h], place)
                scores = np.array([query @ key[shared] for key in keys]) / math.sqrt(dim)
                share = np.exp(scores - scores.max())
                share /= share.sum()
                mixed.append(sum(w * v[shared] for w, v in zip(share, values, strict=True)))
            x = x + get("self_attn.o_proj") @ np.concatenate(mixed)
            y = norm(x, get("post_attention_layernorm"))
            gate, up = get("mlp.gate_proj") @ y, get("mlp.up_proj") @ y
            after.append(x + get("mlp.down_proj") @ (gate / (1 + np.exp(-gate)) * up))
        states = after
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    return np.stack([head @ norm(x, weights["model.norm.weight"]) for x in states])


def write(folder, hf, tensors, files=1):
    from safetensors.numpy import save_file

    (folder / "config.json").write_text(json.dumps(hf))
    names = sorted(tensors)
    for i in range(files):
        part = {name: tensors[name] for name in names[i::files]}
        save_file(part, folder / f"model-{i + 1:05}-of-{files:05}.safetensors")


@pytest.mark.parametrize("tied", [False, True])
def test_logits_equal_those_of_a_llama_written_out(tmp_path, tied):
    hf = {**HF, "tie_word_embeddings": tied}
    tensors = random_tensors(llama_config(hf))
    write(tmp_path, hf, tensors, files=2)
    model, params = load_llama(tmp_path)
    tokens = np.array([5, 1, 12, 0, 7, 7, 2])
    inputs = jaxdec.Inputs.causal(jnp.asarray(tokens)[None])
    logits = jax.jit(model.forward)(params, inputs, None).logits
    np.testing.assert_allclose(logits[0], numpy_llama(tensors, hf, tokens), rtol=2e-4, atol=2e-4)


def test_a_loaded_model_decodes(tmp_path):
    write(tmp_path, HF, random_tensors(CONFIG))
    model, params = load_llama(tmp_path)
    assert (model.vocab_size, model.max_length, model.eos) == (13, 64, (3,))
    prompt = jnp.asarray([[1, 2, 4]])
    result = jaxdec.generate(
        jaxdec.autoregressive(model), params, prompt, rng=jax.random.key(0), max_new_tokens=5
    )
    assert 4 <= int(result.lengths[0]) <= 8


def test_parameters_are_float32_unless_asked_otherwise():
    tensors = {name: jnp.asarray(x, jnp.bfloat16) for name, x in random_tensors(CONFIG).items()}
    for dtype in (jnp.float32, jnp.bfloat16):
        params = from_llama(tensors, CONFIG, dtype)
        assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("tied", [False, True])
def test_round_trip(tied):
    config = dataclasses.replace(CONFIG, tied=tied)
    tensors = random_tensors(config)
    params = from_llama(tensors, config)
    back = to_tensors(params, config)
    assert back.keys() == tensors.keys()
    for name, x in tensors.items():
        np.testing.assert_array_equal(back[name], x, err_msg=name)
    abstract = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
    _, shapes = jaxdec.from_nnx(abstract)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)


def test_rotary_frequencies_in_the_file_are_left_out():
    tensors = random_tensors(CONFIG)
    stored = {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2)}
    jax.tree.map(
        np.testing.assert_array_equal, from_llama(stored, CONFIG), from_llama(tensors, CONFIG)
    )


def test_tensors_that_do_not_fit_are_named():
    tensors = random_tensors(CONFIG)
    name = "model.layers.1.self_attn.k_proj.weight"
    missing = {k: v for k, v in tensors.items() if k != name}
    with pytest.raises(ValueError, match=f"{name}' is missing"):
        from_llama(missing, CONFIG)
    with pytest.raises(ValueError, match=r"'model\.layers\.2\.mlp\.up_proj\.weight' is unknown"):
        from_llama({**tensors, "model.layers.2.mlp.up_proj.weight": np.zeros((20, 16))}, CONFIG)
    with pytest.raises(ValueError, match=r"'lm_head\.weight' is unknown to a tied"):
        from_llama(tensors, dataclasses.replace(CONFIG, tied=True))
    with pytest.raises(ValueError, match=rf"{name}' has shape \[16, 8\], expected \[8, 16\]"):
        from_llama({**tensors, name: tensors[name].T}, CONFIG)
    with pytest.raises(ValueError, match=r"'model.layers.2\.\S+' is missing"):
        to_tensors(from_llama(tensors, CONFIG), dataclasses.replace(CONFIG, layers=3))


def test_configuration():
    assert (
        TransformerConfig(
            vocab_size=13,
            width=16,
            layers=2,
            heads=4,
            kv_heads=2,
            head_dim=4,
            hidden=20,
            max_length=64,
            rope_theta=500.0,
            norm_epsilon=1e-4,
            tied=False,
        )
        == CONFIG
    )
    short = {
        "vocab_size": 13,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 20,
    }
    assert llama_config(short) == TransformerConfig(
        vocab_size=13,
        width=16,
        layers=1,
        heads=2,
        kv_heads=2,
        head_dim=8,
        hidden=20,
        rope_theta=10000.0,
        norm_epsilon=1e-6,
        tied=False,
    )
    newer = {**short, "rope_parameters": {"rope_type": "default", "rope_theta": 7e4}}
    assert llama_config(newer).rope_theta == 7e4
    assert llama_config({**HF, "head_dim": 6}).head_dim == 6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4}),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("hidden_act", "gelu"),
        ("model_type", "mistral"),
        ("hidden_size", None),
    ],
)
def test_unsupported_configurations(field, value):
    with pytest.raises(ValueError, match=field.replace("rope_parameters", "rope_scaling")):
        llama_config({**HF, field: value})


def test_a_folder_without_the_files(tmp_path):
    with pytest.raises(ValueError, match=r"must hold a config\.json"):
        load_llama(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(HF))
    with pytest.raises(ValueError, match="safetensors"):
        load_llama(tmp_path)
