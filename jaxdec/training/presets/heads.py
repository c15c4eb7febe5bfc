"""Draft heads, and other networks on the states of models of source code."""

import dataclasses
from typing import Any

from jaxdec import text
from jaxdec.models import (
    ChimeraConfig,
    FalconConfig,
    HeadsConfig,
    ScoreConfig,
)
from jaxdec.training.heads import HeadTraining
from jaxdec.training.joint import JointTraining
from jaxdec.training.judging import JudgeTraining
from jaxdec.training.presets.contract import Preset
from jaxdec.training.presets.models import TARGET

_SMALL_LAYER: dict[str, Any] = {
    "vocab_size": text.VOCAB_SIZE,
    "width": TARGET.width,
    "layers": 1,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 64,
    "hidden": 256,
}
_HEADS: dict[str, Any] = {"batch": 8, "length": 256, "rows_at_once": 1, "warmup": 50}

HEADS = {
    "code-medusa": Preset(
        HeadTraining(
            kind="medusa",
            model=HeadsConfig(text.VOCAB_SIZE, TARGET.width, heads=5),
            steps=800,
            **_HEADS,
        ),
        about="Medusa heads for code-target",
    ),
    "code-hydra": Preset(
        HeadTraining(
            kind="hydra",
            model=HeadsConfig(text.VOCAB_SIZE, TARGET.width, heads=4),
            steps=600,
            **_HEADS,
        ),
        about="Hydra heads for code-target",
    ),
    "code-eagle": Preset(
        HeadTraining(
            kind="eagle",
            model=dataclasses.replace(TARGET, layers=1),
            steps=600,
            regression=0.1,
            unroll=4,
            **_HEADS,
        ),
        about="an EAGLE drafter for code-target",
    ),
    "code-judge": Preset(
        JudgeTraining(
            model=ScoreConfig(TARGET.width, 0),
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
            model=dataclasses.replace(TARGET, layers=1, hidden=256),
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
}
