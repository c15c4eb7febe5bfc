"""Llama weights by their Hugging Face names, against a Llama written out in NumPy."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec.models import Transformer, TransformerConfig, huggingface
from jaxdec.models.huggingface import from_tensors, to_tensors
from jaxdec.models.huggingface.fields import rotary
from jaxdec.models.layers import Rotary, Scaling

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
LLAMA = huggingface.named("llama")
CONFIG = LLAMA.config(HF)


def config_of(fields):
    return huggingface.of_fields(fields).config(fields)


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
    tensors = random_tensors(config_of(hf))
    write(tmp_path, hf, tensors, files=2)
    loaded = huggingface.load(tmp_path)
    tokens = np.array([5, 1, 12, 0, 7, 7, 2])
    inputs = jaxdec.Inputs.causal(jnp.asarray(tokens)[None])
    logits = jax.jit(loaded.model.forward)(loaded.params, inputs, None).logits
    np.testing.assert_allclose(logits[0], numpy_llama(tensors, hf, tokens), rtol=2e-4, atol=2e-4)


def test_a_loaded_model_decodes(tmp_path):
    write(tmp_path, HF, random_tensors(CONFIG))
    model, params, _, _ = jaxdec.load(tmp_path)
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
        params = from_tensors(LLAMA, tensors, CONFIG, dtype)
        assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("changes", [{}, {"tied": True}, {"window": 5}])
def test_round_trip(changes):
    config = dataclasses.replace(CONFIG, **changes)
    tensors = random_tensors(config)
    params = from_tensors(LLAMA, tensors, config)
    kind = "mistral" if config.window else "llama"
    back = to_tensors(huggingface.named(kind), params, config)
    assert back.keys() == tensors.keys()
    for name, x in tensors.items():
        np.testing.assert_array_equal(back[name], x, err_msg=name)
    assert config_of(huggingface.checked_fields(kind, config)) == config
    abstract = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
    _, shapes = jaxdec.from_nnx(abstract)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)


def test_a_shipped_model_goes_out_and_comes_back_with_its_window(tmp_path):
    """Past its window a model that forgot it gives other logits."""
    held = jaxdec.load("code-draft")
    tokens = jnp.asarray(np.random.default_rng(0).integers(97, 123, (1, 300)))
    with pytest.raises(ValueError, match="llama cannot store window 256"):
        huggingface.save(tmp_path / "out", held.params, held.config)
    save = functools.partial(
        huggingface.save, tmp_path / "out", held.params, held.config, "mistral", eos=held.model.eos
    )
    save()
    model, params, _, _ = jaxdec.load(tmp_path / "out")
    assert (model.eos, model.max_length) == (held.model.eos, held.model.max_length)
    logits = [
        jax.jit(m.forward)(p, jaxdec.Inputs.causal(tokens), None).logits
        for m, p in ((held.model, held.params), (model, params))
    ]
    np.testing.assert_array_equal(*logits)
    fields = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (fields["model_type"], fields["sliding_window"]) == ("mistral", held.config.window)
    with pytest.raises(ValueError, match="not an empty folder"):
        save()


def test_a_tied_file_may_hold_the_head_too():
    config = dataclasses.replace(CONFIG, tied=True)
    tensors = random_tensors(config)
    stored = {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]}
    jax.tree.map(
        np.testing.assert_array_equal,
        from_tensors(LLAMA, stored, config),
        from_tensors(LLAMA, tensors, config),
    )


def test_rotary_frequencies_in_the_file_are_left_out():
    tensors = random_tensors(CONFIG)
    stored = {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2)}
    jax.tree.map(
        np.testing.assert_array_equal,
        from_tensors(LLAMA, stored, CONFIG),
        from_tensors(LLAMA, tensors, CONFIG),
    )


def test_tensors_of_the_network_without_its_head_lack_a_prefix():
    config = dataclasses.replace(CONFIG, tied=True)
    tensors = random_tensors(config)
    stored = {name.removeprefix("model."): x for name, x in tensors.items()}
    jax.tree.map(
        np.testing.assert_array_equal,
        from_tensors(LLAMA, stored, config),
        from_tensors(LLAMA, tensors, config),
    )


def test_tensors_that_do_not_fit_are_named():
    tensors = random_tensors(CONFIG)
    name = "model.layers.1.self_attn.k_proj.weight"
    missing = {k: v for k, v in tensors.items() if k != name}
    with pytest.raises(ValueError, match=f"{name}' is missing"):
        from_tensors(LLAMA, missing, CONFIG)
    with pytest.raises(ValueError, match=r"'model\.layers\.2\.mlp\.up_proj\.weight' is unknown"):
        from_tensors(
            LLAMA, {**tensors, "model.layers.2.mlp.up_proj.weight": np.zeros((20, 16))}, CONFIG
        )
    with pytest.raises(ValueError, match=rf"{name}' has shape \[16, 8\], expected \[8, 16\]"):
        from_tensors(LLAMA, {**tensors, name: tensors[name].T}, CONFIG)
    with pytest.raises(ValueError, match=r"'model.layers.2\.\S+' is missing"):
        params = from_tensors(LLAMA, tensors, CONFIG)
        to_tensors(LLAMA, params, dataclasses.replace(CONFIG, layers=3))


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
    assert config_of(short) == TransformerConfig(
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
        assert config_of({**short, **fields}).rope_theta == theta, fields
    mistral = config_of({**short, "model_type": "mistral", "num_attention_heads": 8})
    assert (mistral.window, mistral.kv_heads, mistral.max_length) == (4096, 8, 131072)
    assert config_of(huggingface.checked_fields("mistral", mistral)) == mistral
    assert config_of({**HF, "head_dim": 6}).head_dim == 6


LENGTH = "original_max_position_embeddings"
SCALINGS = {
    "linear": ({"factor": 2.0}, Scaling("linear", 2.0)),
    "llama3": (
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        Scaling("llama3", 8.0, 32, low=1.0, high=4.0),
    ),
    "yarn": (
        {"factor": 4.0, "beta_fast": 16, "original_max_position_embeddings": 32},
        Scaling("yarn", 4.0, 32, fast=16),
    ),
}


@pytest.mark.parametrize("kind", SCALINGS)
def test_scaled_frequencies_are_read_in_both_spellings_and_written_back(kind):
    given, expected = SCALINGS[kind]
    scaling, parameters = {"type": kind, **given}, {"rope_theta": 500.0, "rope_type": kind, **given}
    beside = {name: x for name, x in given.items() if name != LENGTH}  # where some files have it
    spellings = [
        {"rope_parameters": parameters},
        {"rope_scaling": scaling},
        {"rope_scaling": scaling, "rope_parameters": parameters},
        {"rope_scaling": {"type": kind, **beside}, LENGTH: 32},
        {"rope_scaling": {"type": kind, **beside}, "max_position_embeddings": 32},
    ]
    for fields in spellings:
        config = config_of({**HF, **fields})
        assert config.kind(1).rotary == Rotary(500.0, None, expected)
        assert config_of(huggingface.checked_fields("llama", config)) == config
    other = {"rope_type": kind, **given, "factor": 5.0}
    with pytest.raises(ValueError, match=r"rope_scaling .* and rope_parameters .* differ"):
        config_of({**HF, "rope_scaling": scaling, "rope_parameters": other})


def test_a_share_of_the_head_may_be_turned():
    """By architectures that say so: Llama is none of them."""
    fields = {**HF, "rope_scaling": {"type": "linear", "factor": 2.0}, "partial_rotary_factor": 0.5}
    assert rotary(fields, 8) == Rotary(500.0, 4, Scaling("linear", 2.0))
    nested = {"rope_parameters": {"rope_theta": 7.0, "partial_rotary_factor": 0.25}}
    assert rotary(nested, 8) == Rotary(7.0, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rope_scaling", {"rope_type": "dynamic", "factor": 8.0}),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4}),
        ("rope_parameters", {"rope_type": "yarn", "factor": 8.0, "mscale": 0.7}),
        ("rope_parameters", {"full_attention": {"rope_theta": 1e6}}),
        ("rope_scaling", {"type": "linear", "factor": 0.5}),
        ("rope_scaling", {"factor": 2.0}),
        ("head_dim", 5),
        ("hidden_act", "gelu"),
        ("model_type", "mamba"),
        ("hidden_size", None),
        ("sliding_window", 512),
        ("layer_types", ["full_attention", "sliding_attention"]),
        ("layer_types", ["sliding_attention", "sliding_attention"]),
        ("partial_rotary_factor", 0.5),
    ],
)
def test_unsupported_configurations(field, value):
    with pytest.raises(ValueError, match="rotary|rope|scaling" if "rope" in field else field):
        config_of({**HF, field: value})


def test_a_window_needs_a_type_that_has_one():
    fields = {name: value for name, value in HF.items() if name != "model_type"}
    assert config_of(fields) == CONFIG
    with pytest.raises(ValueError, match=r"model_type is missing.* sliding_window, got 512"):
        config_of({**fields, "sliding_window": 512})
    mistral = {**HF, "model_type": "mistral", "sliding_window": 512}
    assert config_of(mistral).window == 512
    assert config_of({**mistral, "layer_types": ["sliding_attention"] * 2}).window == 512
    with pytest.raises(ValueError, match="layer_types with 'full_attention' is not supported"):
        config_of({**mistral, "layer_types": ["full_attention"] * 2})


def test_a_folder_without_the_files(tmp_path):
    with pytest.raises(ValueError, match=r"must hold a config\.json"):
        huggingface.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(HF))
    with pytest.raises(ValueError, match="safetensors"):
        huggingface.load(tmp_path)
    for content, message in [
        ("[", "JSON object"),
        (json.dumps({**HF, "eos_token_id": "3"}), "'3'"),
    ]:
        write(tmp_path, HF, random_tensors(CONFIG))
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            huggingface.load(tmp_path)
