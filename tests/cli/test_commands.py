"""`demo`, `info`, and what a shell sees of any command."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flax import nnx

from jaxdec import __version__ as version
from jaxdec import any_subset, catalogue, checkpoint_folder, checkpoints, diffusion
from jaxdec.catalogue import layers, search
from jaxdec.cli import process
from jaxdec.model import heads_from_nnx
from jaxdec.models import HeadsConfig, Medusa
from tests.cli.processes import environment, start


def test_demo(jaxdec, pair):
    code, out, err = jaxdec("demo", *pair, "--max-new-tokens", 8)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    for method in ("plain", "draft model", "prompt lookup"):
        words = method.split()
        found = [row for row in rows if row[: len(words)] == words and len(row) >= 4]
        assert [row[len(words)] for row in found] == ["0", "0.8"], out
        if method != "plain":
            assert [row[-1] for row in found] == ["yes", "yes"], out
    assert out.count("self._items = []") == 2  # the prompts are shown at both temperatures
    for column in ("tokens/forward", "acceptance", "tokens/s", "x plain", "identical"):
        assert sum(line.startswith(column) for line in out.splitlines()) == 1, column


def test_info(jaxdec, models, tmp_path, monkeypatch):
    shutil.copytree(models / "target", tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{")
    monkeypatch.setattr(checkpoint_folder, "folder", lambda: tmp_path)
    code, out, err = jaxdec("info")
    assert (code, err) == (0, "")
    size = checkpoints.load(models / "target").size
    assert f"{size:,}" in out and "7.500" in out and "tiny" in out and "damaged" in out
    for method in catalogue.METHODS.values():
        line = next(line for line in out.splitlines() if line.startswith(f"  {method.name} "))
        assert method.exactness.value in line


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_info_is_readable_where_there_is_little_room(jaxdec, models, monkeypatch, columns):
    monkeypatch.setattr(checkpoint_folder, "folder", lambda: models)
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = jaxdec("info")[1].splitlines()
    for name in (*catalogue.METHODS, "target", "blocks"):
        assert name in lines
    words = "".join(f" {line.strip()}" for line in lines)
    for method in catalogue.METHODS.values():
        assert f"{method.name} {method.title} {method.exactness.value}" in words
    long = [line for line in lines if len(line) > columns]
    assert all(" " not in line.strip() for line in long), long  # nothing but names


def test_version_and_help_need_no_jax():
    """They are printed at once: JAX alone takes seconds to import."""
    code = """
import contextlib, sys
from jaxdec.cli import arguments, main
for argv in (["--version"], ["--help"], *([name, "--help"] for name in arguments.COMMANDS)):
    with contextlib.suppress(SystemExit):
        main(argv)
heavy = {"jax", "numpy", "flax", "orbax", "rich"} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(version + "\nusage: jaxdec [-h]")
    for part in (
        "JAX_COMPILATION_CACHE_DIR",
        "--lengths",
        "--verifier",
        "--branches",
        "--step-tokens",
    ):
        assert part in done.stdout


def test_broken_pipe_is_quiet():
    process = start("info")
    process.stdout.close()
    _, err = process.communicate()
    assert (process.returncode, err) == (141, "")


def test_a_broken_pipe_while_text_is_streamed(jaxdec, target, monkeypatch):
    class Closed(io.TextIOWrapper):
        def write(self, text):
            raise BrokenPipeError

    with open(os.devnull, "wb") as sink:
        monkeypatch.setattr(sys, "stdout", Closed(sink, encoding="utf-8"))
        argv = ["--prompt", "x", "--method", "lookup", "--max-new-tokens", 2]
        assert jaxdec("generate", *argv, *target)[0] == 141


def test_closed_streams_swallow_what_is_written(jaxdec, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert jaxdec("info")[0] == 0
    assert jaxdec("frobnicate")[0] == 2


@pytest.mark.skipif(not Path("/proc").exists(), reason="sees by /proc how far a process is")
def test_interrupts_end_a_process_that_compiles():
    process = start(
        "generate",
        "--prompt",
        "x",
        "--no-stream",
        variables={"JAX_ENABLE_COMPILATION_CACHE": "false"},
    )
    while b"libjax" not in Path(f"/proc/{process.pid}/maps").read_bytes():
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 130


def test_programs_are_kept_for_the_next_process(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    process.keep_programs()
    held = tmp_path / "jaxdec" / "programs"
    assert held.is_dir() and os.environ["JAX_COMPILATION_CACHE_DIR"] == str(held)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    process.keep_programs()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "elsewhere"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    process.keep_programs()  # nowhere to keep them


@pytest.mark.parametrize("name", catalogue.METHODS)
def test_catalogue_states_what_the_decoder_promises(models, name):
    target = causal = checkpoints.load(models / "target").model
    method = catalogue.METHODS[name]
    if method.infills:
        with pytest.raises(ValueError, match="causal"):
            method.make(catalogue.Parts(target, draft=target))
        target = any_subset.two_stream(target, mask_token=target.vocab_size - 1)
    if method.denoises:
        with pytest.raises(ValueError, match="causal"):
            method.make(catalogue.Parts(target))
        target = diffusion.canvas_model(target, mask_token=target.vocab_size - 1)
    draft = causal if method.denoises else target
    if name.split("-")[0] in ("medusa", "hydra"):
        config = HeadsConfig(target.vocab_size, 8, heads=3)
        draft, _ = heads_from_nnx(Medusa(config, rngs=nnx.Rngs(0)))
    if name.split("-")[0] in ("diffuspec", "dflash"):
        draft = diffusion.canvas_model(target, mask_token=target.vocab_size - 1)
    decoder = method.make(catalogue.Parts(target, draft=draft, length=3))
    assert decoder.exactness is method.exactness
    assert f"| `{name}`: {method.title}" in catalogue.markdown()
    assert method.exactness.value in catalogue.markdown()


def test_every_family_is_found_with_its_verifiers():
    names = {
        "autoregressive",
        *catalogue.INFILLING,
        *catalogue.DENOISING,
        *(row.name for row in [*layers.ROWS, *search.ROWS]),
    }
    for family in catalogue.FAMILIES[1:]:
        for verifier in catalogue.VERIFIERS:
            name = family if verifier == "walk" else f"{family}-{verifier}"
            if name in catalogue.METHODS:
                names.add(catalogue.find(family, verifier).name)
            else:
                with pytest.raises(ValueError, match=name):
                    catalogue.find(family, verifier)
    assert names == set(catalogue.METHODS)
    with pytest.raises(ValueError, match="draft model"):
        catalogue.find("draft").make(catalogue.Parts(None))
