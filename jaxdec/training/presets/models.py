"""Models of source code."""

import dataclasses

from jaxdec import text
from jaxdec.models import (
    TransformerConfig,
)
from jaxdec.models.layers import Mixture
from jaxdec.training.noising import Noising
from jaxdec.training.presets.contract import Preset
from jaxdec.training.subsets import Masking
from jaxdec.training.trainer import TrainConfig

TARGET = TransformerConfig(
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
# Adaptations of the causal target, in turn: to any subset, and from there to canvases.
_ADAPTED = TrainConfig(
    TARGET,
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


MODELS = {
    "code-target": Preset(
        TrainConfig(TARGET, steps=2300),
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
}
