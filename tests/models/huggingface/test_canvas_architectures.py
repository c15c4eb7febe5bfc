"""Checkpoints that restore masks: published configurations, masks, blocks and names. Numbers: `tests/parity`."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import catalogue, visibility
from jaxdec.diffusion import refresh, schedules, unmask
from jaxdec.model import Inputs, from_nnx, unshifted
from jaxdec.models import huggingface
from jaxdec.models.mdlm import MDLM, MDLMConfig
from jaxdec.testing import check_model

HF = {"hidden_act": "silu", "max_position_embeddings": 4096}
LLADA = {
    "model_type": "llada",
    "d_model": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 32,
    "mlp_hidden_size": 12288,
    "embedding_size": 126464,
    "vocab_size": 126464,
    "max_sequence_length": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5e5,
    "weight_tying": False,
}
MOE = HF | {
    "model_type": "llada",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "expert_intermediate_size": 1024,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "vocab_size": 157184,
    "rope_theta": 5e4,
}
LLADA2 = HF | {
    "model_type": "llada2_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 20,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 5120,
    "moe_intermediate_size": 512,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "vocab_size": 157184,
    "rope_theta": 6e5,
    "rms_norm_eps": 1e-6,
}
QWEN = HF | {"rms_norm_eps": 1e-6, "rope_theta": 1e6}
DREAM = QWEN | {
    "model_type": "Dream",
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
}
FAST = QWEN | {
    "model_type": "Fast_dLLM_Qwen",
    "hidden_size": 1536,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "intermediate_size": 8960,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
SDAR = QWEN | {
    "model_type": "sdar",
    "hidden_size": 2048,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 6144,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
A2D = SDAR | {
    "model_type": "a2d-qwen3",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "mask_token_id": 151669,
}
A2D_2 = FAST | {
    "model_type": "a2d-qwen2",
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "intermediate_size": 4864,
    "mask_token_id": 151665,
    "block_size": 32,
}
MDLM_FIELDS = {
    "model_type": "mdlm",
    "vocab_size": 50258,
    "model_length": 1024,
    "hidden_dim": 768,
    "cond_dim": 128,
    "n_blocks": 12,
    "n_heads": 12,
    "time_conditioning": False,
}
BD3LM = MDLM_FIELDS | {"model_type": "bd3lm", "block_size": 16}
PUBLISHED = {
    # configuration, its reader, billions of parameters, what it fills, mask, block, whether rows are shifted
    "llada": (LLADA, "llada", 8.02, "canvas", 126336, None, False),
    "illada": (
        LLADA
        | {"n_kv_heads": 8, "mlp_hidden_size": 14336, "embedding_size": 155136}
        | {"weight_tying": True, "mask_token_id": 5},
        *("llada", 7.61, "canvas", 5, None, False),
    ),
    "llada-moe": (MOE, "llada_moe", 7.36, "canvas", 156895, None, False),
    "llada2": (LLADA2, "llada2", 16.3, "blocks", 156895, 32, False),
    "dream": (DREAM, "dream", 7.62, "canvas", 151666, None, True),
    "fast-dllm": (FAST, "fast_dllm", 1.54, "blocks", 151665, 32, True),
    "sdar": (SDAR, "sdar", 1.72, "blocks", 151669, 4, False),
    "a2d-3": (A2D, "a2d", 0.596, "canvas", 151669, None, False),
    "a2d-2": (A2D_2, "a2d", 0.494, "blocks", 151665, 32, False),
    "mdlm": (MDLM_FIELDS, "mdlm", 0.1696, "canvas", 50257, None, False),
    "bd3lm": (BD3LM, "bd3lm", 0.1696, "blocks", 50257, 16, False),
}
SMALL = {
    **dict(d_model=16, hidden_size=16, hidden_dim=16, cond_dim=6, head_dim=8),
    **dict(n_layers=2, num_hidden_layers=2, n_blocks=2),
    **dict(n_heads=2, num_attention_heads=2, n_kv_heads=1, num_key_value_heads=1),
    **dict(mlp_hidden_size=12, intermediate_size=12, moe_intermediate_size=6),
    **dict(expert_intermediate_size=6, num_experts=16, num_experts_per_tok=4),
    **dict(vocab_size=20, embedding_size=20, mask_token_id=19),
}


def small(fields):
    """The same architecture at a tiny size."""
    return fields | {name: x for name, x in SMALL.items() if name in fields} | {"mask_token_id": 19}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations(name):
    fields, reader, billions, kind, mask, block, shifted = PUBLISHED[name]
    architecture = huggingface.of_fields(fields)
    config = architecture.config(fields)
    assert architecture.name == reader
    assert architecture.config(architecture.fields(config)) == config
    assert huggingface.checked_fields(reader, config)["model_type"] == fields["model_type"]
    two, three = (dataclasses.replace(config, layers=layers) for layers in (2, 3))
    (model, first), (_, second) = (from_nnx(architecture.abstract(c)) for c in (two, three))
    sizes = [sum(math.prod(x.shape) for x in jax.tree.leaves(p)) for p in (first, second)]
    size = sizes[0] + (config.layers - 2) * (sizes[1] - sizes[0])
    assert size / 1e9 == pytest.approx(billions, rel=6e-3)
    fills = architecture.fills(fields)
    assert (fills.kind, fills.mask_token, fills.block_size) == (kind, mask, block)
    wrapped = fills(model)
    assert wrapped.canvas and wrapped.mask_token == mask and wrapped.reads_before == shifted
    assert unshifted(wrapped).forward == model.forward


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_parameter_has_a_tensor_of_its_own(name):
    fields = small(PUBLISHED[name][0])
    architecture = huggingface.of_fields(fields)
    config = architecture.config(fields)
    _, shapes = from_nnx(architecture.abstract(config))
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), jnp.float32), shapes)
    tensors = huggingface.to_tensors(architecture, params, config)
    assert sum(x.size for x in tensors.values()) == sum(x.size for x in jax.tree.leaves(params))
    again = huggingface.from_tensors(architecture, tensors, config)
    jax.tree.map(np.testing.assert_array_equal, again, params)


@pytest.mark.parametrize("name", PUBLISHED)
def test_half_precision_stays_what_it_is(name):
    """Weights, states and entries are bfloat16, logits float32."""
    fields = small(PUBLISHED[name][0])
    architecture = huggingface.of_fields(fields)
    model, shapes = from_nnx(architecture.abstract(architecture.config(fields)), dtype="bfloat16")
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), shapes)
    places = jnp.arange(4)[None]
    inputs = Inputs(places, places, *visibility.full(places))

    def forward(params):
        return model(params, inputs, model.init_cache(1, 8))

    output = jax.eval_shape(forward, params)
    assert output.logits.dtype == jnp.float32 and output.hidden.dtype == jnp.bfloat16
    for leaf in jax.tree.leaves(output.entries.layers):
        assert leaf.dtype == jnp.bfloat16


def test_a_loaded_checkpoint_says_how_it_decodes(tmp_path):
    """`jaxdec.load` gives all that the methods of the catalogue need."""
    fields = small(FAST) | {"bd_size": 8}
    kind = huggingface.named("fast_dllm")
    config = kind.config(fields)
    _, shapes = from_nnx(kind.abstract(config))
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    huggingface.save(tmp_path / "fast", params, config, "fast_dllm", fields=fields)
    held = jaxdec.load(tmp_path / "fast")
    assert (held.fills, held.mask_token, held.block_size) == ("blocks", 19, 8)
    parts = catalogue.Parts(held.model, block=held.block_size, causal=True, refresh="sub-block")
    decoder = catalogue.METHODS["fast-dllm-v2"].make(parts)
    assert decoder == jaxdec.denoise(
        held.model,
        schedule=schedules.blocks(2, within=8, from_start=True),
        attention="causal",
        refresh=refresh.sub_block(),
        unmask=unmask.first_alone(unmask.threshold()),
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**A2D, "mask_token_id": None}, "no mask_token_id"),
        ({**MDLM_FIELDS, "time_conditioning": True}, "time_conditioning True is not supported"),
        ({**LLADA, "alibi": True}, "alibi True is not supported"),
        ({**LLADA, "n_layers": None}, "has no n_layers"),
        ({**LLADA2, "use_bias": True}, "use_bias True is not supported"),
        ({**MOE, "clip_qkv": 8.0}, "clip_qkv 8.0 is not supported"),
        ({**BD3LM, "block_size": None}, "has no block_size"),
        ({**MDLM_FIELDS, "n_heads": 5}, "multiple of 2 x 5 heads"),
    ],
)
def test_what_is_not_computed_is_refused(fields, message):
    architecture = huggingface.of_fields(fields)
    with pytest.raises(ValueError, match=message):
        architecture.config(fields)
        architecture.fills(fields)


CONTENT = {"content": "<M>", "special": True}
NAMED = {
    "config": {
        "tokenizer_config.json": {"mask_token": "<M>", "added_tokens_decoder": {"7": CONTENT}}
    },
    "map": {
        "special_tokens_map.json": {"mask_token": CONTENT},
        "added_tokens.json": {"<M>": 7, "<N>": 8},
    },
    "tokenizer": {"tokenizer.json": {"added_tokens": [{"id": 7, **CONTENT}]}},
    "vocabulary": {
        "tokenizer.json": {"model": {"vocab": {"[MASK]": 7}}, "added_tokens": []},
        "tokenizer_config.json": {"mask_token": "[MASK]"},
    },
}


@pytest.mark.parametrize("how", NAMED)
def test_a_mask_that_the_tokenizer_names(tmp_path, how):
    """A checkpoint that says no more than the type of its network is read by the name of an architecture."""
    fields = small(DREAM) | {"model_type": "qwen2", "mask_token_id": None}
    dream = huggingface.named("dream")
    config = dream.config(fields)
    _, shapes = from_nnx(dream.abstract(config))
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    huggingface.save(tmp_path / "open", params, config, "dream")
    (tmp_path / "open/config.json").write_text(json.dumps(fields))
    for name, held in NAMED[how].items():
        (tmp_path / "open" / name).write_text(json.dumps(held))
    loaded = huggingface.load(tmp_path / "open", architecture="dream")
    assert loaded.model.mask_token == loaded.fills.mask_token == 7
    assert loaded.model.reads_before and loaded.architecture == "dream"


def test_a_mask_without_a_number_is_refused(tmp_path):
    from jaxdec.models.huggingface.mask_token import tokenizer_mask

    assert tokenizer_mask(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text('{"mask_token": "<X>"}')
    with pytest.raises(ValueError, match="'<X>', which has no number"):
        tokenizer_mask(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_mdlm_keeps_the_contract():
    config = MDLMConfig(
        11, width=8, layers=1, heads=2, conditioning=4, mask_token=10, max_length=16
    )
    model, params = from_nnx(MDLM(config, rngs=nnx.Rngs(0)))
    params = jax.tree.map(lambda x: 2 * x + 0.1, params)
    fills = huggingface.named("mdlm").fills({**MDLM_FIELDS, "vocab_size": 11})
    check_model(fills(model), params)
