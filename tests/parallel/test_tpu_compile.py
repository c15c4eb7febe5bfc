"""A whole decode compiles ahead of time for TPUs, and its loops hold no collective and copy no cache."""

import math
import re

import pytest

from tests.parallel.processes import needs_tpu_compiler, report_of

pytestmark = [pytest.mark.slow, needs_tpu_compiler]
DEVICES = {"v5e:2x2": 4, "v5e:4x4": 16, "v6e:2x4": 8}


def compile_for(program, kind, *topologies):
    return report_of("tpu_compile", program, kind, *topologies)


@pytest.mark.parametrize(
    ("program", "topology"),
    [
        ("causal", "v5e:2x2"),
        ("causal", "v6e:2x4"),
        ("infill", "v5e:2x2"),
        ("canvas", "v5e:2x2"),
    ],
)
def test_rows_on_devices_communicate_nothing(program, topology):
    report = compile_for(program, "placed", topology)[topology]
    assert report["devices"] == DEVICES[topology]
    assert report["loops"] > 0
    assert report["in_loops"] == []
    assert report["anywhere"] == []


def test_automatic_sharding_communicates_in_the_loop():
    """The control: the same decode, sharded by the compiler, fails the check above."""
    report = compile_for("causal", "automatic", "v5e:2x2")["v5e:2x2"]
    assert report["in_loops"]


LAYERS, WIDTH = 2, 1024
TOKEN = 6
"""Collectives for the token: two maxima with their places, a sum, and what is read of the law at the token."""
PLACES = 7
"""And for the places of a canvas: the highest of the other tokens, too."""


@pytest.mark.parametrize(
    ("program", "topologies", "branches", "small"),
    [
        ("wide_plain", ["v6e:2x4"], 1, TOKEN),
        ("wide_tree", ["v5e:2x2", "v5e:4x4", "v6e:2x4"], 1, TOKEN),
        ("wide_infill", ["v5e:4x4"], 1, TOKEN),
        ("wide_canvas", ["v5e:2x2"], 2, PLACES),  # a step is a block with its last one, or without
    ],
)
def test_heads_on_devices_communicate_the_residual_and_few_numbers(
    program, topologies, branches, small
):
    """Two sums of the residual a layer and one for the embedding, in bfloat16; for the token, numbers a scored row."""
    report = compile_for(program, "split", *topologies)
    for topology in topologies:
        found = [line.split(" ", 1) for line in report[topology]["in_loops"]]
        residual = [kind for kind, shapes in found if shapes.endswith(f",{WIDTH}]")]
        assert residual == ["all-reduce"] * branches * (2 * LAYERS + 1)
        summed = [shapes for _, shapes in found if shapes.endswith(f",{WIDTH}]")]
        assert all(shapes.startswith("bf16") and shapes.count("[") == 1 for shapes in summed)
        others = [shapes for _, shapes in found if not shapes.endswith(f",{WIDTH}]")]
        assert len(others) == small
        numbers = [math.prod(map(int, dims.split(","))) for o in others for dims in held(o)]
        devices = DEVICES[topology] // 2
        assert (
            max(numbers) <= 8 * 16 * devices
        )  # rows, tokens a row: nothing as long as a vocabulary
        assert report[topology]["kernels_in_loops"].count("span_attention") == branches * LAYERS


def held(shapes):
    """The dimensions in `f32[8,16] s32[8]`."""
    return re.findall(r"\[([\d,]+)\]", shapes)


@pytest.mark.parametrize(
    ("kind", "topology"),
    [("kernels", "v5e:2x2"), ("kernels", "v6e:2x4"), ("default", "v5e:2x2")],
)
def test_kernels_commit_in_place(kind, topology):
    """Asked for by name, and as programs get them by default on a TPU."""
    report = compile_for("plain", kind, topology)[topology]
    assert report["kernels_in_loops"].count("commit") == 2  # layers
    assert report["copied_in_loops"] == []
    assert report["anywhere"] == []


@pytest.mark.parametrize(
    ("program", "topology", "kernels"),
    [
        ("large", "v5e:2x2", ["span_attention", "verify_walk", "commit"]),
        ("large_canvas", "v5e:2x2", ["span_attention", "unmask_logits", "write"]),
        ("large_canvas", "v6e:2x4", ["span_attention", "unmask_logits", "write"]),
    ],
)
def test_loops_of_large_decodes_run_kernels_and_copy_no_cache(program, topology, kernels):
    report = compile_for(program, "kernels", topology)[topology]
    assert set(report["kernels_in_loops"]) == set(kernels)
    assert report["kernels_in_loops"].count(kernels[-1]) == 2  # layers
    assert all(max(shape) < 8192 for shape in report["copied_in_loops"])  # slots
    assert report["in_loops"] == []


@pytest.mark.slow
def test_beams_move_rows_and_copy_no_cache():
    """Room for two rows, which cycles of moves need, is not the sixteen that a device holds."""
    report = compile_for("beams", "kernels", "v5e:2x2")["v5e:2x2"]
    assert report["kernels_in_loops"].count("commit") == 2  # layers
    assert all(shape[0] <= 2 for shape in report["copied_in_loops"])
    assert report["in_loops"] == []


def test_slots_are_refilled_without_a_copy_of_a_cache():
    """A slot engine of trees: three loops with kernels (a step, the first prompt, those that follow)."""
    report = compile_for("large", "engine", "v5e:2x2")["v5e:2x2"]
    assert report["kernels_in_loops"].count("commit") == 3 * 2  # layers
    assert report["kernels_in_loops"].count("verify_walk") == 1
    assert all(max(shape) < 8192 for shape in report["copied_in_loops"])  # slots
    assert report["in_loops"] == []


def test_narrow_steps_of_a_canvas_store_what_is_narrow():
    """A wide step stores the whole canvas, which is left to the compiler; a narrow one is a kernel's work."""
    report = compile_for("large_dual", "kernels", "v5e:2x2")["v5e:2x2"]
    assert report["kernels_in_loops"].count("write") == 2  # layers
    assert report["in_loops"] == []


def test_a_cache_that_is_read_after_the_commit_is_copied():
    """The control: here the old cache is needed beside the new one."""
    assert compile_for("rereads", "kernels", "v5e:2x2")["v5e:2x2"]["copied_in_loops"]
