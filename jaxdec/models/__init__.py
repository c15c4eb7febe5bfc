"""Networks that meet the model contract."""

from jaxdec.models.adjust import Adjust
from jaxdec.models.bert import Bert, BertConfig
from jaxdec.models.chimera import Chimera, ChimeraConfig
from jaxdec.models.config import LayerKind, TransformerConfig
from jaxdec.models.dflash import DFlash, DFlashConfig
from jaxdec.models.eagle import Eagle
from jaxdec.models.eagle3 import Eagle3, Eagle3Config
from jaxdec.models.falcon import Falcon, FalconConfig
from jaxdec.models.grow import grow
from jaxdec.models.heads import HeadsConfig, Hydra, Medusa, build_heads, start_heads
from jaxdec.models.mdlm import MDLM, MDLMConfig
from jaxdec.models.scores import Score, ScoreConfig
from jaxdec.models.transformer import Transformer
from jaxdec.models.xlnet import XLNet, XLNetConfig

__all__ = [
    "MDLM",
    "Adjust",
    "Bert",
    "BertConfig",
    "Chimera",
    "ChimeraConfig",
    "DFlash",
    "DFlashConfig",
    "Eagle",
    "Eagle3",
    "Eagle3Config",
    "Falcon",
    "FalconConfig",
    "HeadsConfig",
    "Hydra",
    "LayerKind",
    "MDLMConfig",
    "Medusa",
    "Score",
    "ScoreConfig",
    "Transformer",
    "TransformerConfig",
    "XLNet",
    "XLNetConfig",
    "build_heads",
    "grow",
    "start_heads",
]
