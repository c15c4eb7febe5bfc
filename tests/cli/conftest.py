import dataclasses

import jax
import pytest

from jaxdec import checkpoints, text
from jaxdec.cli import main
from jaxdec.models import HeadsConfig, TransformerConfig, build_heads
from jaxdec.training.trainer import build

TINY = TransformerConfig(
    vocab_size=text.VOCAB_SIZE,
    width=16,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=8,
    hidden=16,
    max_length=512,
)


@pytest.fixture(autouse=True)
def quickly(quick_compilation):
    """Every test here runs tiny models."""


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with tiny checkpoints: a pair that is alike, the same pair with masks, a model of blocks,
    models whose laws are not finite, another vocabulary, and heads for a model of another width."""
    folder = tmp_path_factory.mktemp("checkpoints")
    _, params = build(TINY, seed=0)
    params = jax.tree.map(lambda x: 3 * x, params)  # laws that are far from flat
    facts = {"about": "tiny", "held_out_bits_per_byte": 7.5}
    checkpoints.save(folder / "target", TINY, params, eos=[text.EOS], facts=facts)
    near = jax.tree.map(lambda x: 0.8 * x, params)
    checkpoints.save(folder / "draft", TINY, near, eos=[text.EOS])
    for name, weights in [("infill", params), ("infill-draft", near)]:
        checkpoints.save(
            folder / name, TINY, weights, eos=[text.EOS], fills="subsets", mask_token=text.MASK
        )
    broken = jax.tree.map(lambda x: x * float("nan"), params)
    checkpoints.save(folder / "nan", TINY, broken, eos=[text.EOS])
    checkpoints.save(
        folder / "nan-infill", TINY, broken, eos=[text.EOS], fills="subsets", mask_token=text.MASK
    )
    blocks = dict(fills="blocks", mask_token=text.MASK, block_size=8)
    checkpoints.save(folder / "blocks", TINY, params, eos=[text.EOS], **blocks)
    checkpoints.save(folder / "nan-blocks", TINY, broken, eos=[text.EOS], **blocks)
    other = dataclasses.replace(TINY, vocab_size=300)
    checkpoints.save(folder / "other", other, build(other)[1])
    heads = HeadsConfig(text.VOCAB_SIZE, 2 * TINY.width, heads=2)
    medusa = build_heads("medusa", heads)[1]
    checkpoints.save(folder / "medusa", heads, medusa, heads="medusa", target="target")
    return folder


@pytest.fixture
def jaxdec(models, capfd):
    """Runs a command line in this process: `(exit code, stdout, stderr)`."""

    def run(*argv):
        capfd.readouterr()
        code = main([str(word) for word in argv])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def target(models):
    """The option that names the tiny model."""
    return ["--target", models / "target"]


@pytest.fixture
def pair(models, target):
    """The options that name the tiny pair."""
    return [*target, "--draft", models / "draft"]


@pytest.fixture
def filler(models):
    """The option that names the tiny any-subset model."""
    return ["--target", models / "infill"]


@pytest.fixture
def fillers(models, filler):
    """The options that name the tiny any-subset pair."""
    return [*filler, "--draft", models / "infill-draft"]
