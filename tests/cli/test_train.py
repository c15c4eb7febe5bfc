"""`jaxdec train`: a run that is killed, whenever, ends like one that is not."""

import json
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from jaxdec import checkpoints
from jaxdec.training import corpus
from tests.cli.processes import start

SIZES = {"width": 8, "layers": 1, "heads": 1, "kv-heads": 1, "head-dim": 4, "hidden": 8}
STEPS = 90
RUN = [
    "train",
    "code-target",
    "--steps",
    STEPS,
    "--checkpoint-every",
    5,
    "--batch",
    2,
    "--length",
    16,
]
RUN += [word for name, size in SIZES.items() for word in (f"--{name}", size)]
LIMIT = 300  # seconds until a process that should do something counts as hung


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder of small files, one of them held out."""
    folder = tmp_path_factory.mktemp("corpus")
    names = [f"module{i}.py" for i in range(40)]
    held_out = [name for name in names if corpus.is_held_out(name, 0.05)]
    assert held_out
    for i, name in enumerate([*names[:4], held_out[0]]):
        (folder / name).write_text(f"def function{i}(x):\n    return x + {i}\n" * 3)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(sources, tmp_path_factory):
    """The folder of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("run")
    finish(folder, sources)
    return folder


def launch(folder, sources):
    return start(*RUN, "--folder", folder, "--corpus", sources)


def finish(folder, sources):
    process = launch(folder, sources)
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err) == (0, "")
    return out


def lines(folder):
    path = folder / "losses.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def newest(folder):
    """The last step that has a checkpoint, or a part of one."""
    names = [path.name.split(".")[0] for path in (folder / "state").glob("*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def saving(folder, after):
    """Whether a checkpoint later than `after` is being written."""
    return any(
        "tmp" in path.name and int(path.name.split(".")[0]) > after
        for path in (folder / "state").glob("*.*")
        if path.name.split(".")[0].isdigit()
    )


def kill(folder, sources, when):
    """Starts the run and kills it as soon as `when()` holds."""
    process = launch(folder, sources)
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and not when():
        assert time.monotonic() < deadline, "the run hangs"
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"the run ended before it was killed: {err}"


def same_weights(one, other):
    one, other = (checkpoints.load(folder / "export") for folder in (one, other))
    assert one.config == other.config
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    drop = lambda facts: {k: v for k, v in facts.items() if k != "seconds"}
    assert drop(one.facts) == drop(other.facts)


@pytest.mark.slow
def test_killed_runs_end_like_one_that_was_not_killed(uninterrupted, sources, tmp_path):
    moments = [
        lambda: lines(tmp_path) >= 3,  # before the first checkpoint
        lambda: lines(tmp_path) >= 12,
        lambda: saving(tmp_path, seen),  # in the middle of a checkpoint
        lambda: newest(tmp_path) >= seen + 15,  # right at one
    ]
    for when in moments:
        seen = newest(tmp_path)
        kill(tmp_path, sources, when)
        assert not (tmp_path / "export").exists()
    # What a kill in the middle of the export leaves behind.
    (tmp_path / ".export.part" / "weights").mkdir(parents=True)
    out = finish(tmp_path, sources)
    assert "resumed after step" in out
    expected = (uninterrupted / "losses.jsonl").read_bytes()
    assert len(expected.splitlines()) == STEPS
    assert (tmp_path / "losses.jsonl").read_bytes() == expected
    same_weights(tmp_path, uninterrupted)


def test_export(uninterrupted, sources):
    checkpoint = checkpoints.load(uninterrupted / "export")
    data = corpus.folder_sources(sources)
    assert (checkpoint.config.window, checkpoint.config.max_length) == (16, 8192)
    facts = checkpoint.facts
    assert facts["parameters"] == checkpoint.size
    assert facts["corpus"] == data.fingerprint()
    assert facts["train_bytes"] == sum(len(source.content) for source in data.train)
    assert facts["steps"] == STEPS and facts["seconds"] > 0
    assert 0 < facts["held_out_bits_per_byte"] < 9
    card = (uninterrupted / "export" / "README.md").read_text()
    for name in ("held_out_bits_per_byte", "gzip_bits_per_byte", "xz_bits_per_byte"):
        assert f"{facts[name]:.3f}" in card
    assert facts["command"] in card and "--width 8" in facts["command"]
    assert str(sources) not in card and str(uninterrupted) not in card


def test_refusals(jaxdec, uninterrupted, sources, tmp_path):
    argv = [*RUN, "--corpus", sources]
    heads = ["train", "code-medusa", "--corpus", sources]
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text(json.dumps({"facts": {"run": "another"}}))
    cases = [
        (
            [*argv, "--folder", tmp_path / "run", "--export", foreign],
            "not a checkpoint of this run",
        ),
        ([*argv, "--folder", uninterrupted, "--export", tmp_path / "new", "--seed", 5], "seed"),
        ([*argv, "--folder", tmp_path / "run", "--teacher", "x"], "does not distil"),
        (
            [*argv, "--folder", uninterrupted, "--steps", STEPS - 1],
            f"with {STEPS} steps, more than",
        ),
        (["train", "gpt-5"], "code-target"),
        ([*RUN, "--corpus", tmp_path / "nothing"], "no Python sources"),
        ([*argv, "--folder", tmp_path / "run", "--rows-at-once", 3], "3"),
        ([*heads, "--folder", tmp_path / "run", "--width", 8], "no --width"),
        ([*heads, "--folder", tmp_path / "run", "--teacher", "x"], "no --teacher"),
    ]
    for words, part in cases:
        code, _, err = jaxdec(*words)
        assert (code, len(err.splitlines())) == (2, 1) and part in err, err
    assert not (tmp_path / "run").exists()


def test_a_run_takes_more_steps(jaxdec, uninterrupted, sources, tmp_path):
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    before = (folder / "losses.jsonl").read_bytes()
    more = STEPS + 6
    argv = [*RUN, "--steps", more, "--corpus", sources, "--folder", folder]
    code, out, err = jaxdec(*argv)
    assert (code, err) == (0, "") and f"resumed after step {STEPS}" in out
    after = (folder / "losses.jsonl").read_bytes()
    assert after.startswith(before) and len(after.splitlines()) == more
    facts = checkpoints.load(folder / "export").facts
    assert (facts["steps"], facts["extended_from"]) == (more, [STEPS])
    assert facts["command"].count("jaxdec train") == 2 and f"--steps {STEPS} " in facts["command"]
    assert facts["run"] != checkpoints.load(uninterrupted / "export").facts["run"]
    assert f"the run was given {STEPS} at first" in (folder / "export" / "README.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert "holds this run's checkpoint already" in jaxdec(*argv)[1]
    code, _, err = jaxdec(*RUN, "--corpus", sources, "--folder", folder)
    assert code == 2 and f"with {more} steps, more than {STEPS}" in err


def test_the_teacher_is_part_of_a_run(jaxdec, models, sources, tmp_path):
    sizes = [word for name, size in SIZES.items() for word in (f"--{name}", size)]
    argv = ["train", "code-draft", "--steps", 2, "--batch", 2, "--length", 16, *sizes]
    argv += ["--corpus", sources, "--folder", tmp_path / "run", "--teacher"]
    code, _, err = jaxdec(*argv, models / "target")
    assert (code, err) == (0, "")
    assert "holds this run's checkpoint already" in jaxdec(*argv, models / "target")[1]
    code, out, err = jaxdec(*argv, models / "draft")
    assert (code, out.count("already")) == (2, 0) and "not a checkpoint of this run" in err
    code, out, err = jaxdec(*argv, models / "draft", "--export", tmp_path / "another")
    assert code == 2 and "teacher differ" in err and not (tmp_path / "another").exists()


def test_a_finished_run_is_left_alone(jaxdec, uninterrupted, sources):
    before = (uninterrupted / "export" / "config.json").read_bytes()
    code, out, err = jaxdec(*RUN, "--folder", uninterrupted, "--corpus", sources)
    assert (code, err) == (0, "") and "holds this run's checkpoint already" in out
    assert (uninterrupted / "export" / "config.json").read_bytes() == before
