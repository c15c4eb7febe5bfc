"""Watermarks: a secret key is drawn into a text, and found again without the model.

`Exponential` and `InverseTransform` change no law: over the secret, each token is a draw from the model. `GreenList`
changes the law, and is here to compare with. Each is a setting of `Warp`: `generate(..., watermark=...)`.
"""

from jaxdec.sampling.watermarks.alignment import aligned, edited
from jaxdec.sampling.watermarks.contract import KeySequence, Watermark
from jaxdec.sampling.watermarks.detection import Detection, detect
from jaxdec.sampling.watermarks.exponential import Exponential
from jaxdec.sampling.watermarks.green_count import GreenCount, count_green
from jaxdec.sampling.watermarks.green_list import GreenList
from jaxdec.sampling.watermarks.inverse_transform import InverseTransform, inverse_transform

__all__ = [
    "Detection",
    "Exponential",
    "GreenCount",
    "GreenList",
    "InverseTransform",
    "KeySequence",
    "Watermark",
    "aligned",
    "count_green",
    "detect",
    "edited",
    "inverse_transform",
]
