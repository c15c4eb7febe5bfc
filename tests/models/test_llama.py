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
from jaxdec.models import (
    Transformer,
    TransformerConfig,
    from_llama,
    hf_config,
    llama_config,
    load_llama,
    save_llama,
    to_llama,
)

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
    window = hf.get("sliding_window") or len(tokens)
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
            seen = slice(max(place - window + 1, 0), None)
            for h in range(heads):
                shared = h // (heads // kv_heads)
                query = rotate(q[h], place)
                scores = np.array([query @ key[shared] for key in keys[seen]]) / math.sqrt(dim)
                share = np.exp(scores - scores.max())
                share /= share.sum()
                mixed.append(sum(w * v[shared] for w, v in zip(share, values[seen], strict=True)))
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


KINDS = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", "sliding_window": 3},
    "mistral without a window": {"model_type": "mistral", "sliding_window": None},
}


@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_those_of_a_llama_written_out(tmp_path, kind):
    hf = {**HF, **KINDS[kind]}
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
        jaxdec.autoregressive(model),
        {"target": params},
        prompt,
        rng=jax.random.key(0),
        max_new_tokens=5,
    )
    assert 4 <= int(result.lengths[0]) <= 8


def test_parameters_are_float32_unless_asked_otherwise():
    tensors = {name: jnp.asarray(x, jnp.bfloat16) for name, x in random_tensors(CONFIG).items()}
    for dtype in (jnp.float32, jnp.bfloat16):
        params = from_llama(tensors, CONFIG, dtype)
        assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("changes", [{}, {"tied": True}, {"window": 5}])
def test_round_trip(changes):
    config = dataclasses.replace(CONFIG, **changes)
    tensors = random_tensors(config)
    params = from_llama(tensors, config)
    back, fields = to_llama(params, config, eos=[3])
    assert back.keys() == tensors.keys()
    for name, x in tensors.items():
        np.testing.assert_array_equal(back[name], x, err_msg=name)
    assert llama_config(fields) == config
    assert fields["model_type"] == ("mistral" if config.window else "llama")
    assert fields["eos_token_id"] == [3]
    abstract = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
    _, shapes = jaxdec.from_nnx(abstract)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)


def test_a_shipped_model_goes_out_and_comes_back_with_its_window(tmp_path):
    """Past its window a model that forgot it gives other logits."""
    held = jaxdec.load("code-draft")
    tokens = jnp.asarray(np.random.default_rng(0).integers(97, 123, (1, 300)))
    save_llama(tmp_path / "out", held.params, held.config, eos=held.model.eos)
    model, params = load_llama(tmp_path / "out")
    assert (model.eos, model.max_length) == (held.model.eos, held.model.max_length)
    logits = [
        jax.jit(m.forward)(p, jaxdec.Inputs.causal(tokens), None).logits
        for m, p in ((held.model, held.params), (model, params))
    ]
    np.testing.assert_array_equal(*logits)
    fields = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (fields["model_type"], fields["sliding_window"]) == ("mistral", held.config.window)
    with pytest.raises(ValueError, match="not an empty folder"):
        save_llama(tmp_path / "out", held.params, held.config)


def test_a_tied_file_may_hold_the_head_too():
    config = dataclasses.replace(CONFIG, tied=True)
    tensors = random_tensors(config)
    stored = {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]}
    jax.tree.map(
        np.testing.assert_array_equal, from_llama(stored, config), from_llama(tensors, config)
    )


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
    with pytest.raises(ValueError, match=rf"{name}' has shape \[16, 8\], expected \[8, 16\]"):
        from_llama({**tensors, name: tensors[name].T}, CONFIG)
    with pytest.raises(ValueError, match=r"'model.layers.2\.\S+' is missing"):
        to_llama(from_llama(tensors, CONFIG), dataclasses.replace(CONFIG, layers=3))


THETAS = [
    (7e4, {"rope_parameters": {"rope_type": "default", "rope_theta": 7e4}}),
    (7e4, {"rope_parameters": {"type": "default", "rope_theta": 7e4}}),
    (7e4, {"rope_parameters": {"rope_theta": 7e4}}),
    (7e4, {"rope_parameters": {"rope_theta": 7e4}, "rope_theta": 500.0}),
    (500.0, {"rope_parameters": {"rope_type": "default"}, "rope_theta": 500.0}),
    (500.0, {"rope_scaling": {"rope_type": "default"}, "rope_theta": 500.0}),
    (7e4, {"rope_scaling": {"rope_type": "default", "rope_theta": 7e4}, "rope_theta": 500.0}),
    (500.0, {"rope_scaling": {"type": "default"}, "rope_theta": 500.0}),
    (1e4, {"rope_scaling": None, "rope_parameters": None}),
]


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
    for theta, fields in THETAS:
        assert llama_config({**short, **fields}).rope_theta == theta, fields
    mistral = llama_config({**short, "model_type": "mistral", "num_attention_heads": 8})
    assert (mistral.window, mistral.kv_heads, mistral.max_length) == (4096, 8, 131072)
    assert llama_config(hf_config(mistral)) == mistral
    assert llama_config({**HF, "head_dim": 6}).head_dim == 6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4}),
        ("rope_parameters", {"type": "yarn", "factor": 8.0}),
        ("rope_parameters", {"full_attention": {"rope_theta": 1e6}}),
        ("rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        ("rope_scaling", {"type": "linear", "factor": 2.0}),
        ("rope_scaling", {"factor": 2.0}),
        ("partial_rotary_factor", 0.5),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("hidden_act", "gelu"),
        ("model_type", "qwen2"),
        ("hidden_size", None),
        ("sliding_window", 512),
        ("layer_types", ["full_attention", "sliding_attention"]),
    ],
)
def test_unsupported_configurations(field, value):
    with pytest.raises(ValueError, match=field):
        llama_config({**HF, field: value})


def test_a_window_needs_a_type_that_has_one():
    fields = {name: value for name, value in HF.items() if name != "model_type"}
    assert llama_config(fields) == CONFIG
    with pytest.raises(ValueError, match=r"model_type is missing.* sliding_window, got 512"):
        llama_config({**fields, "sliding_window": 512})
    assert llama_config({**HF, "model_type": "mistral", "sliding_window": 512}).window == 512


def test_a_folder_without_the_files(tmp_path):
    with pytest.raises(ValueError, match=r"must hold a config\.json"):
        load_llama(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(HF))
    with pytest.raises(ValueError, match="safetensors"):
        load_llama(tmp_path)
    for content, message in [
        ("[", "JSON object"),
        (json.dumps({**HF, "eos_token_id": "3"}), "'3'"),
    ]:
        write(tmp_path, HF, random_tensors(CONFIG))
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            load_llama(tmp_path)
