"""Networks that meet the model contract."""

from jaxdec.models.grow import grow
from jaxdec.models.llama import from_llama, llama_config, load_llama, to_llama
from jaxdec.models.transformer import Transformer, TransformerConfig

__all__ = [
    "Transformer",
    "TransformerConfig",
    "from_llama",
    "grow",
    "llama_config",
    "load_llama",
    "to_llama",
]
