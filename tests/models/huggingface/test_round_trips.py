"""What is written is read back, bit for bit, for every architecture."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.model import from_nnx
from jaxdec.models import LayerKind, huggingface
from jaxdec.models.layers import Mixture, Rotary
from tests.models.huggingface import tiny


def config_of(fields):
    return huggingface.of_fields(fields).config(fields)


def random_params(architecture, config, dtype, seed=0):
    """Parameters of a network, none of which is as it starts."""
    rng = np.random.default_rng(seed)
    shapes = from_nnx(architecture.abstract(config))[1]
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), dtype), shapes)


def test_every_architecture_is_here():
    assert {name.split()[0] for name in tiny.FIELDS} >= {
        "llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3", "gpt2", "olmoe",
    }  # fmt: skip


@pytest.mark.parametrize("name", tiny.FIELDS)
def test_a_checkpoint_goes_out_and_comes_back(tmp_path, name):
    fields = tiny.fields(name)
    architecture = huggingface.of_fields(fields)
    config = architecture.config(fields)
    dtype = jnp.bfloat16 if config.tied else jnp.float32
    params = random_params(architecture, config, dtype)
    huggingface.save(
        tmp_path / "out", params, config, architecture.name, eos=[3], fields=fields, largest=9000
    )
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    loaded = huggingface.load(tmp_path / "out")
    assert (loaded.config, loaded.architecture) == (config, architecture.name)
    assert loaded.model.eos == (3,)
    assert jax.tree.structure(loaded.params) == jax.tree.structure(params)
    for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(loaded.params), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
    again = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config_of(again) == config


LOST = [
    # architecture, what a configuration has that it cannot store
    ("llama", {"attention_bias": True}, "output_bias|attention_bias"),
    ("llama", {"window": 4}, "window"),
    ("llama", {"norm": "layer", "norm_bias": True}, "norm"),
    ("mistral", {"mlp_bias": True}, "mlp_bias"),
    ("qwen2", {"attention_bias": False}, "attention_bias"),
    ("qwen2", {"layer_kinds": (LayerKind(3), LayerKind(4))}, "layer_kinds"),
    ("qwen3", {"layer_kinds": (LayerKind(), LayerKind(None, None))}, "layer_kinds"),
    ("smollm3", {"layer_kinds": (LayerKind(), LayerKind(None, Rotary(7.0)))}, "layer_kinds"),
    ("smollm3", {"qk_norm": "head"}, "qk_norm"),
    ("gemma3", {"embedding_scale": 1.0}, "embedding_scale"),
    ("gemma3", {"logit_scale": 2.0}, "logit_scale"),
    ("gpt2", {"gated": True}, "gated"),
    ("gpt2", {"window": 4}, "window"),
    ("olmoe", {"mixture": None}, "mixture"),
    ("olmoe", {"mixture": Mixture(8, 2, 48, gate="sigmoid")}, "mixture"),
]


@pytest.mark.parametrize(("name", "changes", "lost"), LOST)
def test_what_an_architecture_cannot_store_is_named(name, changes, lost):
    config = dataclasses.replace(config_of(tiny.fields(name)), **changes)
    with pytest.raises(ValueError, match=rf"{name} cannot store ({lost}) "):
        huggingface.checked_fields(name, config)


UNSUPPORTED = [
    # type, fields that would be read wrongly, what the message says
    ("qwen2", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": None}, "max_window_layers"),
    ("qwen2", {"layer_types": [tiny.FULL, tiny.SLIDING]}, "no sliding_window"),
    ("qwen2", {"layer_types": [tiny.FULL]}, "layer_types has 1 entries for 2 layers"),
    ("qwen3", {"layer_types": [tiny.FULL, "linear_attention"]}, "'linear_attention' is not"),
    ("qwen3", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic'"),
    ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers has 1 entries"),
    ("smollm3", {"layer_types": [tiny.FULL, tiny.SLIDING]}, "no sliding_window"),
    ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50"),
    ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma3", {"hidden_activation": "silu"}, "hidden_activation"),
    ("gemma3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "rope_parameters"),
    ("gemma3", {"rope_parameters": {tiny.FULL: 3}}, "rope_parameters .* should have a dict for"),
    ("gpt2", {"activation_function": "relu"}, "activation_function 'relu'"),
    ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
    ("gpt2", {"n_head": 5}, "n_head 5 must divide n_embd 32"),
    ("olmoe", {"clip_qkv": 8.0}, r"clip_qkv 8\.0 is not supported"),
    ("olmoe", {"partial_rotary_factor": 0.5}, r"partial_rotary_factor 0\.5"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "message"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(name, changes, message):
    with pytest.raises(ValueError, match=message):
        config_of({**tiny.fields(name), **changes})


def test_fields_that_are_left_out_have_the_defaults_of_the_type():
    """Transformers leaves out what is as it would be anyway."""
    short = {
        "vocab_size": 64,
        "hidden_size": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 32,
        "intermediate_size": 48,
    }
    of = lambda kind, **more: config_of({"model_type": kind, **short, **more})
    qwen = of("qwen2")
    assert (qwen.kv_heads, qwen.max_length, qwen.tied, qwen.window) == (32, 32768, False, None)
    assert of("qwen3").head_dim == 128
    smol = of("smollm3")
    assert (smol.tied, smol.kv_heads) == (True, 4)
    turned = [kind.rotary for kind in smol.layer_kinds]
    assert turned == [*[Rotary(2e6)] * 3, None, *[Rotary(2e6)] * 2]
    gemma = of("gemma3_text")
    assert (gemma.head_dim, gemma.tied, gemma.attention_scale) == (256, True, 1 / 16)
    local, world = LayerKind(4096, Rotary(1e4)), LayerKind(None, Rotary(1e6))
    assert gemma.layer_kinds == (*[local] * 5, world)
    old = of("gemma3_text", sliding_window_pattern=2, sliding_window=8, rope_local_base_freq=5.0)
    assert old.layer_kinds == (LayerKind(8, Rotary(5.0)), world) * 3
    olmoe = of("olmoe")
    assert (olmoe.mixture, olmoe.norm_epsilon) == (Mixture(64, 8, 48), 1e-5)
    gpt2 = config_of(
        {"model_type": "gpt2", "vocab_size": 64, "n_embd": 32, "n_layer": 1, "n_head": 4}
    )
    assert (gpt2.hidden, gpt2.max_length, gpt2.tied, gpt2.activation) == (
        128,
        1024,
        True,
        "gelu_tanh",
    )


def test_a_gpt2_may_lack_its_prefix_and_hold_its_masks():
    fields = tiny.fields("gpt2")
    architecture = huggingface.of_fields(fields)
    config = architecture.config(fields)
    params = random_params(architecture, config, jnp.float32)
    tensors = huggingface.to_tensors(architecture, params, config)
    assert tensors["transformer.h.0.attn.c_attn.weight"].shape == (32, 96)
    old = {name.removeprefix("transformer."): x for name, x in tensors.items()}
    old |= {
        "h.0.attn.bias": np.tril(np.ones((1, 1, 8, 8), np.uint8)),
        "lm_head.weight": old["wte.weight"],
    }
    back = huggingface.from_tensors(architecture, old, config)
    jax.tree.map(np.testing.assert_array_equal, back, params)
