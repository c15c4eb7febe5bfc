"""Networks that meet the model contract."""

from jaxdec.models.transformer import Transformer, TransformerConfig

__all__ = ["Transformer", "TransformerConfig"]
