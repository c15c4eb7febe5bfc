"""The runs that made the shipped checkpoints, by name."""

import dataclasses

from jaxdec import text
from jaxdec.models import TransformerConfig
from jaxdec.training.trainer import TrainConfig


@dataclasses.dataclass(frozen=True)
class Preset:
    """A run, and what it needs beside its configuration.

    Attributes:
      config: the run.
      teacher: name of the checkpoint to distil from, or None.
      about: one line on what the model is for.
    """

    config: TrainConfig
    teacher: str | None = None
    about: str = ""


PRESETS = {
    "code-target": Preset(
        TrainConfig(
            TransformerConfig(
                vocab_size=text.VOCAB_SIZE,
                width=256,
                layers=4,
                heads=4,
                kv_heads=2,
                head_dim=64,
                hidden=512,
            ),
            steps=2300,
        ),
        about="a causal byte model of Python source",
    ),
    "code-draft": Preset(
        TrainConfig(
            TransformerConfig(
                vocab_size=text.VOCAB_SIZE,
                width=64,
                layers=2,
                heads=2,
                kv_heads=1,
                head_dim=32,
                hidden=160,
            ),
            steps=1500,
            length=256,
            distill=0.9,
        ),
        teacher="code-target",
        about="a drafter for code-target, distilled from it",
    ),
}
