"""The benchmark of the kernels: its checks, its loops, and what it says where there is nothing to time."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import kernel_entries, kernel_timing
from benchmarks.__main__ import main
from benchmarks.cases import kernels
from benchmarks.setting import QUICK, Setting

pytestmark = pytest.mark.usefixtures("quick_compilation")

SETTING = Setting(None, None, None, QUICK, bandwidth=1e10)
ENTRIES = {
    f"{operation}, {entry.name}": entry
    for operation, entries in kernel_entries.OPERATIONS.items()
    for entry in entries(True)
}
TIMED = [
    "span_attention, tree",
    "unmask, ragged",
    "verify, chain",
    "commit, one token",
    "commit, write: a token",
]


def test_every_operation_has_entries_whose_shapes_are_those_of_its_arguments():
    assert {entry.operation for entry in ENTRIES.values()} == set(kernel_entries.OPERATIONS)
    for name, entry in ENTRIES.items():
        arguments = entry.arguments()
        like = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
        assert like(arguments) == like(entry.shapes), name
        assert like(entry.indices()) == like(entry.shapes), name
        assert entry.least_bytes(arguments) > 0, name


@pytest.mark.parametrize("name", TIMED)
def test_a_method_is_checked_and_timed_against_plain_xla(name):
    """The reference stands in for a kernel."""
    first, plain = kernel_timing.timed(ENTRIES[name], "reference", SETTING)
    assert (first["method"], plain["method"]) == ("reference", kernel_timing.PLAIN)
    for row in (first, plain):
        assert row["correct"] and row["different"] == 0 and row["repeats"] == QUICK.repeats
        assert row["seconds"] > 0 and row["compile_seconds"] > 0
        assert row["bytes_per_second"] == row["least_bytes"] / row["seconds"]
    assert plain["wall_ratio"] is None and first["wall_ratio"] > 0


@pytest.mark.parametrize("name", ["one token", "diffusion block", "canvas"])
def test_public_attention_does_the_same_work(name):
    *_, other = kernel_timing.timed(ENTRIES[f"span_attention, {name}"], "reference", SETTING)
    assert other["method"] == "dot_product_attention, xla"
    assert other["correct"] and other["wall_ratio"] > 0


def test_public_attention_has_no_trees():
    assert not ENTRIES["span_attention, tree"].alternatives
    assert not ENTRIES["span_attention, window and bias"].alternatives


def test_wrong_and_broken_methods_are_seen(monkeypatch):
    entry, chosen = ENTRIES["unmask, ragged"], kernel_timing.chosen
    plain = chosen(entry, "reference")

    def wrong(*arguments):
        found = plain(*arguments)
        own = found.own._replace(entropy=found.own.entropy.at[3].set(jnp.nan))
        return found._replace(tokens=found.tokens.at[:2].add(1), own=own)

    def broken(*arguments):
        raise RuntimeError("cannot\nbe compiled")

    for function in (wrong, broken):
        monkeypatch.setattr(
            kernel_timing,
            "chosen",
            lambda entry, name, function=function: function if name == "gpu" else plain,
        )
        first, other = kernel_timing.timed(entry, "gpu", SETTING)
        assert other["correct"] and other["seconds"] > 0
        if function is wrong:
            assert first["correct"] is False and first["error"] is None
            assert first["different"] == 2 / 13
        else:
            assert first["note"] == "RuntimeError: cannot" and "seconds" not in first


def test_disagreement():
    a = jnp.array([1.0, jnp.nan, -jnp.inf, 3.0])
    same, ints = (a, a), (jnp.array([1, 2, 3, 4]), jnp.array([1, 2, 0, 4]))
    assert kernel_timing.disagreement([same, ints]) == (0.0, 0.25)
    assert kernel_timing.disagreement([(a.at[3].set(4.0), a)]) == (0.25, 0.0)
    for place, value in ((0, jnp.nan), (1, 0.0), (2, 0.0), (2, jnp.inf)):
        assert kernel_timing.disagreement([(a.at[place].set(value), a)])[0] == np.inf


def test_a_loop_makes_every_call():
    calls = []

    def function(x, y):
        jax.debug.callback(lambda: calls.append(1))
        return x + y

    arguments = jnp.zeros(3), jnp.ones(3)
    method = kernel_timing.loop("", function, arguments, 5, in_place=False)
    jax.block_until_ready(method.work(method.setup()))
    jax.effects_barrier()
    assert len(calls) == 5
    method = kernel_timing.loop("", lambda x, y: x + y, arguments, 5, in_place=True)
    held, _ = method.work(method.setup())
    np.testing.assert_array_equal(held, [5] * 3)
    np.testing.assert_array_equal(arguments[0], [0] * 3)


def test_junk_after_a_path_is_not_compared():
    cache = jnp.arange(12.0).reshape(1, 1, 12, 1)
    path = jnp.zeros((1, 4), jnp.int32), jnp.array([5]), jnp.array([2])
    found = kernel_entries._specified((cache, None, *path), cache)
    np.testing.assert_array_equal(found[0, 0, :, 0], [0, 1, 2, 3, 4, 5, 6, 0, 0, 9, 10, 11])


@pytest.mark.slow
def test_where_there_is_no_gpu_the_results_say_so(tmp_path, capsys):
    if jax.default_backend() != "cpu":
        pytest.skip("a GPU or TPU is at hand, and this is about machines without")
    assert main(["run", "kernels", "--quick", "--results", str(tmp_path)]) == 0
    assert kernels.NOT_TIMED in capsys.readouterr().out
    (path,) = tmp_path.glob("*.json")
    assert path.name == "kernels-cpu.json"
    result = json.loads(path.read_text())
    first, *rows = result["rows"]
    assert first == {"device": "cpu", "note": "no GPU or TPU at hand: kernels were not timed"}
    assert result["models"] == {} and result["machine"]["commit"]
    if importlib.util.find_spec("libtpu") is None:
        assert rows == [{"device": "TPU", "note": kernels.NOT_COMPILED}]
        return
    assert [row["operation"] for row in rows[::2]] == list(kernel_entries.OPERATIONS)
    for row in rows:
        assert row["compiles"] and row["kernels"] == 1 and row["vmem_bytes"] > 0
        assert row["moved_bytes"] >= row["least_bytes"]
    assert rows[-1]["aliased_bytes"] > 0
