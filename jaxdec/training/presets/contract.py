"""What a preset is."""

import dataclasses

from jaxdec.training.filling import FillTraining
from jaxdec.training.finality import FinalityTraining
from jaxdec.training.heads import HeadTraining
from jaxdec.training.joint import JointTraining
from jaxdec.training.judging import JudgeTraining
from jaxdec.training.policies import PolicyTraining
from jaxdec.training.scores import ScoreTraining
from jaxdec.training.solving import TaskTraining
from jaxdec.training.trainer import TrainConfig

Config = (
    TrainConfig
    | HeadTraining
    | JointTraining
    | TaskTraining
    | FillTraining
    | ScoreTraining
    | JudgeTraining
    | PolicyTraining
    | FinalityTraining
)
"""The kinds of runs."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """A run, and what it needs beside its configuration.

    Attributes:
      config: the run, of a transformer or of draft heads.
      teacher: name of the checkpoint to distil from, or None.
      about: one line on what the model is for.
    """

    config: Config
    teacher: str | None = None
    about: str = ""
