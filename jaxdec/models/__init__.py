"""Networks that meet the model contract."""

from jaxdec.models.config import LayerKind, TransformerConfig
from jaxdec.models.eagle import Eagle
from jaxdec.models.grow import grow
from jaxdec.models.heads import HeadsConfig, Hydra, Medusa, build_heads, start_heads
from jaxdec.models.mdlm import MDLM, MDLMConfig
from jaxdec.models.transformer import Transformer

__all__ = [
    "MDLM",
    "Eagle",
    "HeadsConfig",
    "Hydra",
    "LayerKind",
    "MDLMConfig",
    "Medusa",
    "Transformer",
    "TransformerConfig",
    "build_heads",
    "grow",
    "start_heads",
]
