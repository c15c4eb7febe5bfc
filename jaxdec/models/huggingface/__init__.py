"""Checkpoints of public architectures: a map of the config and a map of the names each."""

from jaxdec.models.huggingface.llama import (
    from_llama,
    hf_config,
    llama_config,
    load_llama,
    save_llama,
    to_llama,
)

__all__ = [
    "from_llama",
    "hf_config",
    "llama_config",
    "load_llama",
    "save_llama",
    "to_llama",
]
