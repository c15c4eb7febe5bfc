"""Configurations as published checkpoints have them, in the spellings of their time, give networks of their sizes."""

import math

import pytest

from jaxdec.models import LayerKind, huggingface
from jaxdec.models.layers import Rotary, Scaling


def llama(kind, *sizes, **more):
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    names = (*names, "intermediate_size", "vocab_size", "max_position_embeddings")
    return {"model_type": kind, **dict(zip(names, sizes, strict=True)), **more}


SCALED = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
TIED = {"tie_word_embeddings": True, "torch_dtype": "bfloat16"}
PUBLISHED = {
    "Llama-3.2-1B": (
        llama("llama", 2048, 16, 32, 8, 8192, 128256, 131072)
        | {"head_dim": 64, "rope_theta": 5e5, "rope_scaling": SCALED, "pretraining_tp": 1, **TIED},
        1_235_814_400,
    ),
    "SmolLM2-135M": (
        llama("llama", 576, 30, 9, 3, 1536, 49152, 8192)
        | {"rope_theta": 1e5, "rope_scaling": None, "rope_interleaved": False, **TIED},
        134_515_008,
    ),
    "Qwen2.5-0.5B": (
        llama("qwen2", 896, 24, 14, 2, 4864, 151936, 32768)
        | {"sliding_window": 32768, "use_sliding_window": False, "max_window_layers": 24, "use_mrope": False}
        | {"rope_theta": 1e6, **TIED},
        494_032_768,
    ),
    "Qwen3-0.6B": (
        llama("qwen3", 1024, 28, 16, 8, 3072, 151936, 40960)
        | {"head_dim": 128, "sliding_window": None, "use_sliding_window": False, "max_window_layers": 28}
        | {"attention_bias": False, "rope_scaling": None, "rope_theta": 1e6, **TIED},
        596_049_920,
    ),
    "gemma-3-270m": (
        llama("gemma3_text", 640, 18, 4, 1, 2048, 262144, 32768)
        | {"_sliding_window_pattern": 6, "attn_logit_softcapping": None, "final_logit_softcapping": None}
        | {"layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3, "sliding_window": 512}
        | {"rope_local_base_freq": 1e4, "rope_theta": 1e6, "rope_scaling": None, "head_dim": 256}
        | {"query_pre_attn_scalar": 256, "hidden_activation": "gelu_pytorch_tanh"}
        | {"use_bidirectional_attention": False, "attention_bias": False},
        268_098_176,
    ),
    "gpt2": (
        {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "n_ctx": 1024}
        | {"vocab_size": 50257, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}
        | {"task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}},
        124_439_808,
    ),
    "OLMoE-1B-7B": (
        llama("olmoe", 2048, 16, 16, 16, 1024, 50304, 4096)
        | {"num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": False, "clip_qkv": None}
        | {"rope_theta": 1e4, "rms_norm_eps": 1e-5, "tie_word_embeddings": False},
        6_919_161_856,
    ),
}  # fmt: skip
EXPECTED = {
    "Llama-3.2-1B": LayerKind(None, Rotary(5e5, None, Scaling("llama3", 32.0, 8192))),
    "SmolLM2-135M": LayerKind(None, Rotary(1e5)),
    "Qwen2.5-0.5B": LayerKind(None, Rotary(1e6)),
    "Qwen3-0.6B": LayerKind(None, Rotary(1e6)),
    "gemma-3-270m": LayerKind(512, Rotary(1e4)),
    "gpt2": LayerKind(None, None),
    "OLMoE-1B-7B": LayerKind(None, Rotary(1e4)),
}
"""The kind of the first layer."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_configuration_has_its_size(name):
    fields, parameters = PUBLISHED[name]
    architecture = huggingface.of_fields(fields)
    config = architecture.config(fields)
    assert config.kind(0) == EXPECTED[name]
    shapes = huggingface.stored_shapes(architecture, config)
    assert sum(map(math.prod, shapes.values())) == parameters
