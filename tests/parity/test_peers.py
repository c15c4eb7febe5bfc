"""The comparison with transformers, run as a user runs it, on tiny checkpoints."""

import importlib.util

import jax
import pytest

from benchmarks import report
from benchmarks.__main__ import main
from benchmarks.peers import OURS, THEIRS
from tests.benchmarks.test_benchmarks import pair


def test_a_package_that_is_missing_is_named(monkeypatch, tmp_path, capsys):
    found = importlib.util.find_spec
    without = lambda name, *package: None if name == "torch" else found(name, *package)
    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert main(["run", "peers", "--quick", *pair(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: the case peers needs torch (extras test and parity)\n"


@pytest.mark.slow
def test_both_sides_write_the_same(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="torch is not installed (extra parity)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra parity)")
    monkeypatch.setenv("JAXDEC_PACKAGES", str(tmp_path / "none"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    jax.config.update("jax_disable_most_optimizations", True)
    options = ["--quick", *pair(tmp_path), "--results", str(tmp_path / "results")]
    assert main(["run", "peers", *options]) == 0
    jax.config.update("jax_disable_most_optimizations", False)
    assert "left out of a quick run" in capsys.readouterr().err
    (result,) = report.load(tmp_path / "results")
    rows = {(row["weights"], row["side"], row["method"]): row for row in result["rows"]}
    there, here = ("plain", "static cache", "prompt lookup"), ("plain", "prompt lookup")
    for weights, drafts in (("shipped", 1), ("tiny", 0)):
        names = {(THEIRS, name) for name in [*there, *["assisted"] * drafts]}
        names |= {(OURS, name) for name in [*here, *["draft model"] * drafts]}
        assert {key[1:] for key in rows if key[0] == weights} == names
    for (_, side, method), row in rows.items():
        assert row["identical"] == 1.0 and row["tokens"] == 8 * row["prompts"]
        assert (row["times"] is None) == (side == THEIRS)
        assert row["memory"] > row["memory_of_imports"] > 2**20  # else it would be this process's
        assert row["tokens_per_call"] <= 1 or method not in ("plain", "static cache")
