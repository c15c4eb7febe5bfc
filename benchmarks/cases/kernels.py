"""The kernels one by one, against plain XLA and public alternatives."""

import importlib.util
import json
import subprocess
import sys

import jax

from benchmarks import ROOT
from benchmarks.case import Case
from benchmarks.columns import COST, Row, flag, number, spread, word
from benchmarks.kernel_entries import OPERATIONS
from benchmarks.kernel_timing import timed
from benchmarks.progress import each
from benchmarks.setting import QUICK, Setting

NOT_TIMED = "no GPU or TPU at hand: kernels were not timed"
NOT_COMPILED = "the TPU compiler (libtpu) is not installed: nothing was compiled ahead of time"


def run(setting: Setting) -> list[Row]:
    """One row a kernel, shape and method where there is a GPU or TPU; one a kernel, shape and TPU that is not there."""
    quick = setting.scale == QUICK
    backend = jax.default_backend()
    if backend not in ("gpu", "tpu"):
        return [{"device": jax.devices()[0].device_kind, "note": NOT_TIMED}, *ahead_of_time(quick)]
    rows = []
    found = [entry for entries in OPERATIONS.values() for entry in entries(quick)]
    for entry in each(found, lambda entry: f"{entry.operation}: {entry.name}"):
        rows += timed(entry, backend, setting)
    return rows + ahead_of_time(quick)


def ahead_of_time(quick: bool) -> list[Row]:
    """What the TPU compiler says, in a process of its own; one row that says so where there is none."""
    if importlib.util.find_spec("libtpu") is None:
        return [{"device": "TPU", "note": NOT_COMPILED}]
    command = [sys.executable, "-m", "benchmarks.kernel_compilation"]
    done = subprocess.run(
        command + ["--quick"] * quick, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


CASE = Case(
    name="kernels",
    order=99,
    about=(
        "Every kernel against plain XLA (its reference) and the best public alternative, one call at a time in a loop. "
        "Seconds are those of a call, from loops in turns in one process. Kernels for TPUs are also compiled ahead of "
        "time, and the bytes that they move are counted from their own index maps."
    ),
    models=None,
    columns=(
        ("operation", word("operation")),
        ("shape", word("shape")),
        ("device", word("device")),
        ("method", word("method")),
        ("right", flag("correct")),
        ("ms", number("seconds", ".3f", 1e3)),
        ("times plain XLA", spread("wall_ratio", ".2f")),
        *COST[1:3],
        ("compiles", flag("compiles")),
        ("bytes moved / least", number("traffic_ratio", ".2f")),
        ("note", word("note")),
        ("counted by", word("counted_by")),
        ("VMEM KiB", number("vmem_bytes", ".0f", 2**-10)),
        ("temporaries MiB", number("temporary_bytes", ".1f", 2**-20)),
        ("arguments MiB", number("argument_bytes", ".1f", 2**-20)),
        ("outputs MiB", number("output_bytes", ".1f", 2**-20)),
        ("in place MiB", number("aliased_bytes", ".1f", 2**-20)),
        ("largest error", number("error", ".1e")),
        ("integers that differ", number("different", ".2%")),
        ("compile s", number("compile_seconds", ".1f")),
    ),
    legend=(
        "`tpu` and `gpu` are the kernels, *plain XLA* their references, others are public functions for the same work. "
        "*right*: agrees with the reference in float32 within the tolerance of its type. *ms*: of one call, in a loop "
        "of calls inside one program. *GB/s*: the least bytes that the work needs, each number read or written once, "
        "over the seconds. *compiled ahead of time*: for a TPU that was not there. *bytes moved*: counted from the "
        "kernel's own index maps over its grid, equal consecutive blocks once; or its cost estimate where it copies by "
        "hand. *in place*: outputs that take the memory of arguments."
    ),
    labels=("operation", "shape", "device", "method"),
    run=run,
)
