"""The reader of compiled programs, on a small one whose bytes are counted by hand."""

from pathlib import Path

import pytest

from jaxdec.planning.counts import Collective
from jaxdec.planning.facts import facts
from jaxdec.planning.hlo import Program, arrays
from jaxdec.planning.program import step_counts

TEXT = Path(__file__).with_name("snippet.txt").read_text()


def kernel(name, inputs, outputs):
    return sum(array.nbytes for array in (*inputs, *outputs)), 7


@pytest.fixture(scope="module")
def program():
    return Program.read(TEXT)


def test_arrays_and_their_memories():
    found = arrays(
        "(bf16[8,64]{1,0:T(8,128)(2,1)S(1)}, pred[3], /*index=5*/s4[10]{0:T(256)}, f32[])"
    )
    assert [array.nbytes for array in found] == [1024, 3, 5, 4]
    assert [array.fast for array in found] == [True, False, False, False]
    assert found[0].main_bytes == 0


def test_loops_and_their_trips(program):
    assert program.main_loop().name == "loop"
    assert {loop.name: program.trips(loop) for loop in program.loops} == {"inner": 3, "loop": 1}


@pytest.mark.parametrize(("widest", "branch"), [(False, 2 * 64), (True, 4 * 64)])
def test_bytes_of_a_step(program, widest, branch):
    counts = step_counts(program, kernel, widest=widest)
    weights = 64 * 128 * 2  # through a renaming; factor and product lie in the fast memory
    update = 2 * 128 * 4 + 4  # what is changed, and its place
    inner = 3 * 2 * 1024
    assert counts.moved == {
        "other": weights + update + inner + branch,
        "copies": 1024,
        "kernels": 2048,
    }
    assert counts.flops == 2 * 8 * 128 * 64 + 7
    assert counts.kernels == {"span_attention": 1}


def test_what_runs_beside_is_counted_once():
    turned = """
%turned (q: f32[256]) -> f32[256] {
  %q = f32[256]{0:T(256)} parameter(0)
  ROOT %r = f32[256]{0:T(256)S(1)} negate(%q)
}
"""
    line = "  %start = ((f32[256]{0:T(256)}), f32[256]{0:T(256)S(1)}, u32[]) async-start(%s5), calls=%turned"
    lines = [line if held.startswith("  %start = ") else held for held in TEXT.splitlines()]
    before, after = (
        step_counts(Program.read(text), kernel) for text in (TEXT, turned + "\n".join(lines))
    )
    assert after.moved["other"] == before.moved["other"] + 1024
    assert after.moved["copies"] == 0


@pytest.mark.parametrize(
    ("made", "copies"),
    [
        ("(f32[256]{0:T(256)S(1)}, f32[256]{0:T(256)}, u32[]{:S(2)}) copy-start(%s5)", 1024),
        ("(f32[256]{0:T(256)}, f32[256]{0:T(256)}, u32[]{:S(2)}) copy-start(%s5)", 2048),
        ("((f32[256]{0:T(256)}), f32[64]{0:T(64)S(1)}, s32[]{:S(2)}) slice-start(%s5)", 256),
        ("((f32[256]{0:T(256)}), f32[64]{0:T(64)}, s32[]{:S(2)}) slice-start(%s5)", 512),
    ],
)
def test_copies_are_counted_where_they_go(made, copies):
    """A copy names where it goes before its source, a slice behind it."""
    lines = TEXT.splitlines()
    lines = [f"  %start = {made}" if held.startswith("  %start = ") else held for held in lines]
    assert step_counts(Program.read("\n".join(lines)), kernel).moved["copies"] == copies


def test_collectives_of_a_step(program):
    (found,) = step_counts(program, kernel).collectives
    assert found == Collective("all-reduce", ("bf16",), 2048, 4)
    assert found.sent == 2 * 3 / 4 * 2048
    assert Collective("all-gather", ("f32",), 800, 8, times=2).sent == 2 * 7 / 8 * 800
    assert Collective("reduce-scatter", ("f32",), 100, 8).sent == 7 * 100
    assert Collective("collective-permute", ("f32",), 100, 2).sent == 100


def test_facts():
    found = facts(TEXT)
    assert found["loops"] == 2
    assert found["in_loops"] == found["anywhere"] == ["all-reduce bf16[8,128]"]
    assert found["kernels_in_loops"] == ["span_attention"]
    assert found["copied_in_loops"] == []


def test_large_copies_are_facts():
    line = (
        "  %start = (f32[2048,1024]{1,0:S(1)}, f32[2048,1024]{1,0}, u32[]{:S(2)}) copy-start(%s5)"
    )
    lines = [line if held.startswith("  %start = ") else held for held in TEXT.splitlines()]
    assert facts("\n".join(lines))["copied_in_loops"] == [[2048, 1024]]


def test_a_text_that_is_no_program():
    with pytest.raises(ValueError, match="no ENTRY computation in 5 characters"):
        Program.read("hello")
