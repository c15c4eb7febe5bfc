"""Checkpoints of public architectures: a map of the config and a map of the names each."""

from jaxdec.models.huggingface.contract import Architecture, Fills, Path, Stored
from jaxdec.models.huggingface.hub import from_hub, is_hub_id
from jaxdec.models.huggingface.loading import Loaded, checked_fields, load, save
from jaxdec.models.huggingface.mapping import from_tensors, stored_shapes, to_tensors
from jaxdec.models.huggingface.registry import architectures, named, of_fields

__all__ = [
    "Architecture",
    "Fills",
    "Loaded",
    "Path",
    "Stored",
    "architectures",
    "checked_fields",
    "from_hub",
    "from_tensors",
    "is_hub_id",
    "load",
    "named",
    "of_fields",
    "save",
    "stored_shapes",
    "to_tensors",
]
