"""The runs that made the shipped checkpoints, by name."""

import dataclasses
from typing import Any

from jaxdec import text
from jaxdec.models import (
    ChimeraConfig,
    FalconConfig,
    HeadsConfig,
    ScoreConfig,
    TransformerConfig,
)
from jaxdec.models.layers import Mixture
from jaxdec.training.filling import FillTraining
from jaxdec.training.heads import HeadTraining
from jaxdec.training.joint import JointTraining
from jaxdec.training.judging import JudgeTraining
from jaxdec.training.noising import Noising
from jaxdec.training.scores import ScoreTraining
from jaxdec.training.solving import TaskTraining
from jaxdec.training.subsets import Masking
from jaxdec.training.tasks import (
    Arithmetic,
    Copy,
    Countdown,
    Insert,
    Replace,
    Reverse,
    Shuffle,
    Sort,
    Sudoku,
    SudokuGrid,
    TaskMixture,
)
from jaxdec.training.trainer import TrainConfig


@dataclasses.dataclass(frozen=True)
class Preset:
    """A run, and what it needs beside its configuration.

    Attributes:
      config: the run, of a transformer or of draft heads.
      teacher: name of the checkpoint to distil from, or None.
      about: one line on what the model is for.
    """

    config: (
        TrainConfig
        | HeadTraining
        | JointTraining
        | TaskTraining
        | FillTraining
        | ScoreTraining
        | JudgeTraining
    )
    teacher: str | None = None
    about: str = ""


_TARGET = TransformerConfig(
    vocab_size=text.VOCAB_SIZE,
    width=256,
    layers=4,
    heads=4,
    kv_heads=2,
    head_dim=64,
    hidden=512,
)
_DRAFT = TransformerConfig(
    vocab_size=text.VOCAB_SIZE,
    width=64,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=32,
    hidden=160,
)
_MIXTURE = TransformerConfig(
    vocab_size=text.VOCAB_SIZE,
    width=128,
    layers=4,
    heads=2,
    kv_heads=1,
    head_dim=64,
    hidden=48,
    mixture=Mixture(experts=8, per_token=2, hidden=48, normalised=True),
)
_SOLVER = TransformerConfig(
    vocab_size=text.VOCAB_SIZE,
    width=192,
    layers=4,
    heads=3,
    kv_heads=3,
    head_dim=64,
    hidden=512,
    max_length=256,
)
_TASKS = TaskMixture((Arithmetic((2, 8), limit=199), Countdown(), Sudoku()), (0.4, 0.35, 0.25))
_FILLER = TransformerConfig(
    vocab_size=text.VOCAB_SIZE,
    width=128,
    layers=4,
    heads=4,
    kv_heads=4,
    head_dim=32,
    hidden=448,
    max_length=128,
)
_SIX = (6, 6)
_CANVASES = TaskMixture(
    (
        *(Copy(_SIX), Reverse(_SIX), Sort(_SIX), Shuffle(_SIX), Insert(_SIX), Replace(_SIX)),
        SudokuGrid(empty=(4, 4)),
    ),
    (0.06, 0.16, 0.18, 0.16, 0.16, 0.14, 0.14),
)
_SMALL_LAYER: dict[str, Any] = {
    "vocab_size": text.VOCAB_SIZE,
    "width": _TARGET.width,
    "layers": 1,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 64,
    "hidden": 256,
}
_HEADS: dict[str, Any] = {"batch": 8, "length": 256, "rows_at_once": 1, "warmup": 50}
# Adaptations of the causal target, in turn: to any subset, and from there to canvases.
_ADAPTED = TrainConfig(
    _TARGET,
    steps=2000,
    batch=8,
    rows_at_once=1,
    learning_rate=0.01,
    adam_learning_rate=2e-3,
    start="code-target",
    masking=Masking(),
)
_CANVAS = dataclasses.replace(
    _ADAPTED, steps=1000, length=256, start="code-infill", masking=Noising()
)

PRESETS = {
    "code-target": Preset(
        TrainConfig(_TARGET, steps=2300),
        about="a causal byte model of Python source",
    ),
    "code-draft": Preset(
        TrainConfig(
            _DRAFT,
            steps=1500,
            length=256,
            distill=0.9,
        ),
        teacher="code-target",
        about="a drafter for code-target, distilled from it",
    ),
    "code-mixture": Preset(
        TrainConfig(
            _MIXTURE,
            steps=1200,
            batch=8,
            length=256,
            rows_at_once=1,
            balance=0.02,
        ),
        about="a small causal mixture of experts for bytes of Python source",
    ),
    "code-infill": Preset(
        _ADAPTED,
        about="an any-subset byte model of Python source, adapted from code-target",
    ),
    "code-infill-draft": Preset(
        TrainConfig(
            _DRAFT,
            steps=1000,
            length=256,
            distill=0.9,
            start="code-draft",
            masking=Masking(scored=128),
        ),
        teacher="code-infill",
        about="a drafter for code-infill, distilled from it",
    ),
    "code-block": Preset(
        dataclasses.replace(
            _CANVAS,
            masking=Noising(blocks=(1, 8, 16, 32), shares=(0.25, 0.125, 0.125, 0.5)),
        ),
        about="a block-diffusion byte model of Python source for blocks of 1 to 32, adapted from code-infill",
    ),
    "code-mdm": Preset(
        _CANVAS,
        about="a masked-diffusion byte model of Python source, adapted from code-infill",
    ),
    "code-medusa": Preset(
        HeadTraining(
            kind="medusa",
            model=HeadsConfig(text.VOCAB_SIZE, _TARGET.width, heads=5),
            steps=800,
            **_HEADS,
        ),
        about="Medusa heads for code-target",
    ),
    "code-hydra": Preset(
        HeadTraining(
            kind="hydra",
            model=HeadsConfig(text.VOCAB_SIZE, _TARGET.width, heads=4),
            steps=600,
            **_HEADS,
        ),
        about="Hydra heads for code-target",
    ),
    "code-eagle": Preset(
        HeadTraining(
            kind="eagle",
            model=dataclasses.replace(_TARGET, layers=1),
            steps=600,
            regression=0.1,
            unroll=4,
            **_HEADS,
        ),
        about="an EAGLE drafter for code-target",
    ),
    "code-falcon": Preset(
        HeadTraining(
            kind="falcon",
            model=FalconConfig(**_SMALL_LAYER, block=2, memory=112),
            steps=400,
            regression=0.1,
            unroll=2,
            **_HEADS | {"rows_at_once": 4},
        ),
        about="a Falcon drafter for code-target",
    ),
    "code-chimera": Preset(
        HeadTraining(
            kind="chimera",
            model=ChimeraConfig(**_SMALL_LAYER, embedding=96),
            steps=300,
            regression=0.1,
            unroll=3,
            **_HEADS | {"rows_at_once": 4},
        ),
        about="a Chimera drafter for code-target",
    ),
    "code-judge": Preset(
        JudgeTraining(
            model=ScoreConfig(_TARGET.width, 0),
            steps=300,
            batch=8,
            length=256,
            rows_at_once=2,
            warmup=20,
        ),
        about="a judge of the drafts of code-draft for code-target",
    ),
    "code-adjust": Preset(
        JointTraining(
            model=dataclasses.replace(_TARGET, layers=1, hidden=256),
            steps=1200,
            batch=8,
            length=128,
            rows_at_once=8,
            learning_rate=2e-3,
            adam_learning_rate=1e-3,
            warmup=50,
            weight_decay=0.0,
        ),
        about="the network of ADJUST for code-mdm",
    ),
    "steps": Preset(
        TaskTraining(
            model=_SOLVER,
            mixture=_TASKS,
            steps=2400,
            batch=8,
            length=256,
            rows_at_once=2,
        ),
        about="a causal byte model that solves arithmetic, Countdown and 4x4 sudoku in written steps",
    ),
    "steps-draft": Preset(
        TaskTraining(
            model=dataclasses.replace(_SOLVER, width=96, layers=2, heads=2, kv_heads=1, hidden=256),
            mixture=_TASKS,
            steps=2000,
            batch=8,
            length=256,
            rows_at_once=2,
        ),
        about="a smaller model of the same tasks, whose steps `steps` can check or rewrite",
    ),
    **{
        f"tasks-{kind}": Preset(
            FillTraining(
                model=_FILLER,
                mixture=_CANVASES,
                masking=masking,
                steps=4500,
                batch=8,
                length=96,
                rows_at_once=8,
            ),
            about=about,
        )
        for kind, masking, about in (
            (
                "mdm",
                Noising(),
                "a masked-diffusion byte model that solves tasks with exact answers",
            ),
            (
                "block",
                Noising(blocks=(1, 4, 8, 16), shares=(0.125, 0.125, 0.25, 0.5)),
                "a block-diffusion byte model for blocks of 1 to 16 that solves tasks with exact answers",
            ),
        )
    },
    **{
        f"steps-{kind}": Preset(
            ScoreTraining(
                kind=kind,
                model=ScoreConfig(_SOLVER.width),
                mixture=_TASKS,
                steps=1500,
                batch=256,
                rows_at_once=256,
                length=192,
            ),
            about=about,
        )
        for kind, about in (
            ("reward", "a process reward for the steps of `steps`"),
            ("value", "a value for the steps of `steps`"),
        )
    },
}
