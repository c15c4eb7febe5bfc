"""`jaxdec train` on tasks: a solver, and heads that score what it writes."""

import dataclasses

import numpy as np
import pytest

from jaxdec import checkpoints
from jaxdec.training import export_fills, export_tasks, presets, scores
from jaxdec.training.presets import PRESETS

SIZES = {"width": 16, "layers": 1, "heads": 1, "kv-heads": 1, "head-dim": 8, "hidden": 16}
SMALL = [word for name, size in SIZES.items() for word in (f"--{name}", size)]


def test_refusals(jaxdec, tmp_path):
    for words, part in [
        (["steps", "--packages"], "no --packages"),
        (["steps", "--corpus", tmp_path], "no --corpus"),
        (["steps", "--teacher", "code-target"], "does not distil"),
        (["steps-reward", "--width", 8], "no --width"),
        (["tasks-mdm", "--corpus", tmp_path], "no --corpus"),
        (["tasks-block", "--teacher", "code-target"], "does not distil"),
    ]:
        code, _, err = jaxdec("train", *words, "--folder", tmp_path / "run")
        assert (code, len(err.splitlines())) == (2, 1) and part in err, err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_solver_and_a_head_on_it(jaxdec, tmp_path, monkeypatch):
    solved = export_tasks.solved
    short = lambda *given, count, **more: solved(*given, count=2, **more)
    monkeypatch.setattr(export_tasks, "solved", short)
    argv = ["train", "steps", "--steps", 2, "--batch", 2, *SMALL, "--folder", tmp_path / "steps"]
    code, out, err = jaxdec(*argv)
    assert (code, err) == (0, "") and "held-out accuracy" in out
    assert "already" in jaxdec(*argv)[1]
    solver = checkpoints.load(tmp_path / "steps" / "export")
    assert solver.facts["accuracy"].keys() == {"arithmetic", "countdown", "sudoku"}

    config = PRESETS["steps-reward"].config
    config = dataclasses.replace(
        config,
        target=str(tmp_path / "steps" / "export"),
        model=dataclasses.replace(config.model, width=16),
        problems=2,
        samples=2,
    )
    row = dataclasses.replace(PRESETS["steps-reward"], config=config)
    monkeypatch.setitem(presets.PRESETS, "steps-reward", row)
    argv = ["train", "steps-reward", "--steps", 2, "--folder", tmp_path / "reward"]
    code, out, err = jaxdec(*argv)
    assert (code, err) == (0, "") and "area under the curve" in out
    loaded = checkpoints.load_any(tmp_path / "reward" / "export")
    assert loaded.kind == "reward" and loaded.kind in scores.KINDS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tasks-mdm", "tasks-block"])
def test_a_model_of_canvases(jaxdec, tmp_path, monkeypatch, name):
    solved = export_fills.one_by_one
    short = lambda *given, count, **more: solved(*given, count=2, **more)
    monkeypatch.setattr(export_fills, "one_by_one", short)
    argv = ["train", name, "--steps", 2, "--batch", 2, *SMALL, "--folder", tmp_path]
    code, out, err = jaxdec(*argv)
    assert (code, err) == (0, "") and "solved one token a forward" in out
    held = checkpoints.load(tmp_path / "export")
    assert held.facts["solved"]["0"].keys() == {
        task.name for task in PRESETS[name].config.mixture.tasks
    }
    assert held.model.canvas and held.fills == ("canvas" if name == "tasks-mdm" else "blocks")
    assert held.block_size == (None if name == "tasks-mdm" else 16)


@pytest.mark.slow
def test_a_network_on_a_canvas_model(jaxdec, tmp_path, monkeypatch):
    sources = tmp_path / "sources"
    sources.mkdir()
    for i in range(24):
        (sources / f"module{i}.py").write_text(f"def function{i}(x):\n    return x + {i}\n" * 40)
    sizes = [*SMALL, "--length", 64, "--batch", 2, "--steps", 2, "--corpus", sources]
    masked = dataclasses.replace(PRESETS["code-mdm"].config, start=None)
    monkeypatch.setitem(
        presets.PRESETS, "code-mdm", dataclasses.replace(PRESETS["code-mdm"], config=masked)
    )
    code, _, err = jaxdec("train", "code-mdm", *sizes, "--folder", tmp_path / "mdm")
    assert (code, err) == (0, "")
    target = checkpoints.load(tmp_path / "mdm" / "export")
    config = dataclasses.replace(
        PRESETS["code-adjust"].config,
        target=str(tmp_path / "mdm" / "export"),
        model=dataclasses.replace(target.config, layers=1),
        group=8,
    )
    row = dataclasses.replace(PRESETS["code-adjust"], config=config)
    monkeypatch.setitem(presets.PRESETS, "code-adjust", row)
    argv = ["train", "code-adjust", *sizes[len(SMALL) :], "--folder", tmp_path / "adjust"]
    code, out, err = jaxdec(*argv)
    assert (code, err) == (0, "") and "held-out distance" in out
    loaded = checkpoints.load_any(tmp_path / "adjust" / "export")
    assert loaded.kind == "adjust" and loaded.heads.vocab_size == target.model.vocab_size
    assert np.shape(loaded.facts["distances"]) == (3, 2)
