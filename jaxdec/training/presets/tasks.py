"""Models of tasks with exact answers, and what is trained on them."""

import dataclasses

from jaxdec import text
from jaxdec.models import (
    FinalityConfig,
    ScoreConfig,
    TransformerConfig,
    UnmaskingConfig,
)
from jaxdec.training.filling import FillTraining
from jaxdec.training.finality import FinalityTraining
from jaxdec.training.noising import Noising
from jaxdec.training.policies import PolicyTraining
from jaxdec.training.presets.contract import Preset
from jaxdec.training.scores import ScoreTraining
from jaxdec.training.solving import TaskTraining
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

TASKS = {
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
                steps=13_500,
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
    "tasks-unmasking": Preset(
        PolicyTraining(
            model=UnmaskingConfig(),
            mixture=_CANVASES,
            steps=240,
            batch=64,
            rows_at_once=64,
            length=32,
            learning_rate=0.01,
            adam_learning_rate=2.5e-3,
            warmup=10,
            checkpoint_every=20,
        ),
        about="a learned policy of unmasking for tasks-mdm",
    ),
    "tasks-finality": Preset(
        FinalityTraining(
            model=FinalityConfig(),
            mixture=_CANVASES,
            steps=1500,
            batch=256,
            rows_at_once=256,
            length=32,
            checkpoint_every=500,
        ),
        about="a filter of final tokens for tasks-mdm",
    ),
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
