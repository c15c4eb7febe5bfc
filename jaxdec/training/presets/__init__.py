"""Presets: the runs that train what is shipped, by the names of the checkpoints."""

from jaxdec.training.presets.contract import Config, Preset
from jaxdec.training.presets.heads import HEADS
from jaxdec.training.presets.models import MODELS
from jaxdec.training.presets.tasks import TASKS

__all__ = ["PRESETS", "Config", "Preset"]

PRESETS: dict[str, Preset] = {**MODELS, **HEADS, **TASKS}
"""By name."""
