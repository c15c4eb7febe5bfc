"""The list of mutants stays alive as the source moves, and the public kit kills them."""

import os
import subprocess
import sys

import pytest

from tests.mutants.mutant import FAMILIES, ROOT, everything, mutants

EVERY = 16
"""A slow run takes every sixteenth mutant; `MUTANTS_OFFSET` says which is the first."""


def test_every_snippet_stands_in_its_file_once():
    gone = []
    for mutant in everything():
        try:
            compile(mutant.source(), mutant.file, "exec", dont_inherit=True)
        except (OSError, SyntaxError, ValueError) as error:
            gone.append(f"{mutant.family}, {mutant.name}: {error}")
    assert not gone, "\n".join(gone)


def test_mutants_are_enough_and_named():
    every = everything()
    assert len(every) - sum(bool(mutant.equivalent) for mutant in every) >= 80
    assert len({mutant.name for mutant in every}) == len(every)
    assert all(mutants(family) for family in FAMILIES)
    assert all(mutant.old != mutant.new for mutant in every)


def test_the_fault_is_what_is_imported():
    """The import hook replaces one file, for those who import it afterwards."""
    code = (
        "from tests.mutants.source import replace; from tests.mutants.mutant import ROOT, mutants;"
        "fault = mutants('sampling')[3]; replace(ROOT / fault.file, fault.source());"
        "import sys, jaxdec.sampling; module = sys.modules['jaxdec.sampling.filters.top_k'];"
        "print((module.__spec__.loader.text == fault.source()) and fault.name)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "top-k keeps one more"


@pytest.mark.slow
def test_a_sample_is_killed():
    offset = int(os.environ.get("MUTANTS_OFFSET", "0")) % EVERY
    command = [
        sys.executable,
        "-m",
        "tests.mutants",
        "--every",
        str(EVERY),
        "--offset",
        str(offset),
    ]
    done = subprocess.run([*command, "--no-control"], capture_output=True, text=True, cwd=ROOT)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
