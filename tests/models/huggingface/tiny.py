"""Tiny checkpoints of each architecture, as fields of a `config.json`; each of its kinds of layer is there."""

COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "beta_fast": 8.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
SHARED = {"tie_word_embeddings": True}
FULL, SLIDING = "full_attention", "sliding_attention"

FIELDS = {
    "llama": {"rope_theta": 500.0},
    "llama with biases": {"attention_bias": True, "mlp_bias": True, **SHARED},
    "llama with llama3": {"rope_parameters": LLAMA3, **SHARED},
    "llama with yarn": {"rope_parameters": YARN, "head_dim": 16},
    "llama with linear": {"rope_parameters": LINEAR},
    "mistral": {"sliding_window": 5},
    "mistral without a window": {"sliding_window": None, "head_dim": 16},
    "qwen2": SHARED,
    "qwen2 with a window": {
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "qwen3": {"head_dim": 16, **SHARED},
    "qwen3 with a window": {
        "attention_bias": True,
        "head_dim": 8,
        "use_sliding_window": True,
        "sliding_window": 4,
        "layer_types": [SLIDING, FULL],
        "rope_parameters": YARN,
    },
    "smollm3": {"no_rope_layers": [1, 0], **SHARED},
    "smollm3 with a window": {
        "num_hidden_layers": 4,
        "attention_bias": True,
        "mlp_bias": True,
        "use_sliding_window": True,
        "sliding_window": 6,
    },
    "gemma3": {
        "num_hidden_layers": 3,
        "head_dim": 16,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 24,
        "sliding_window": 5,
        "layer_types": [SLIDING, FULL, SLIDING],
        "final_logit_softcapping": 6.0,
        "rope_parameters": {
            FULL: {**LINEAR, "rope_theta": 1e6},
            SLIDING: {"rope_type": "default", "rope_theta": 100.0},
        },
        **SHARED,
    },
    "gemma3 of global layers": {"head_dim": 8, "layer_types": [FULL, FULL], "attention_bias": True},
    "gpt2": {
        "vocab_size": 64,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "activation_function": "gelu_new",
    },
    "gpt2 untied": {
        "vocab_size": 64,
        "n_embd": 32,
        "n_layer": 1,
        "n_head": 2,
        "n_inner": 48,
        "n_positions": 64,
        "layer_norm_epsilon": 1e-4,
        "activation_function": "gelu",
        "tie_word_embeddings": False,
    },
    "olmoe": {"num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": True},
    "olmoe with plain weights": {
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "norm_topk_prob": False,
        "attention_bias": True,
    },
}
"""By name: the architecture, and what sets the checkpoint apart."""
TYPES = {"gemma3": "gemma3_text"}


def fields(name: str) -> dict:
    """The whole `config.json`."""
    kind = name.split()[0]
    common = {} if kind == "gpt2" else COMMON
    return {"model_type": TYPES.get(kind, kind), **common, **FIELDS[name]}
