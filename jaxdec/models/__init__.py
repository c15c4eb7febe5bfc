"""Networks that meet the model contract."""

from jaxdec.models.eagle import Eagle
from jaxdec.models.grow import grow
from jaxdec.models.heads import HeadsConfig, Hydra, Medusa, build_heads, start_heads
from jaxdec.models.huggingface import (
    from_llama,
    hf_config,
    llama_config,
    load_llama,
    save_llama,
    to_llama,
)
from jaxdec.models.transformer import Transformer, TransformerConfig

__all__ = [
    "Eagle",
    "HeadsConfig",
    "Hydra",
    "Medusa",
    "Transformer",
    "TransformerConfig",
    "build_heads",
    "from_llama",
    "grow",
    "hf_config",
    "llama_config",
    "load_llama",
    "save_llama",
    "start_heads",
    "to_llama",
]
