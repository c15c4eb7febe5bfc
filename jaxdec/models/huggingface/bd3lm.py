"""BD3-LM: the network of MDLM, with the same tensors, that restores blocks one after the other."""

import functools
from collections.abc import Mapping
from typing import Any

from jaxdec.models.huggingface.contract import Architecture, Fills
from jaxdec.models.huggingface.fields import size
from jaxdec.models.huggingface.mdlm import config, fields, ignored, names
from jaxdec.models.mdlm import MDLM


def fills(fields: Mapping[str, Any]) -> Fills:
    """Blocks of a fixed size, counted from the start of the sequence."""
    return Fills("blocks", config(fields).mask_token, size(fields, "block_size"))


ARCHITECTURE = Architecture(
    "bd3lm",
    ("bd3lm",),
    config,
    functools.partial(fields, kind="bd3lm"),
    names,
    network=MDLM,
    fills=fills,
    ignored=ignored,
)
