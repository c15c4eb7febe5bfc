"""Processes that are killed, at any moment: nothing is lost, nothing comes twice, all tokens are the same."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxdec.generation.requests import Journal
from tests.requests import killed

ROOT = Path(__file__).parents[2]


def start(folder, name, count):
    command = [sys.executable, "-m", "tests.requests.killed", str(folder), name, str(count)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=env, **pipes)


def written(folder):
    path = Path(folder) / "journal.jsonl"
    return path.stat().st_size if path.exists() else 0


def wait(process, folder, size, seconds):
    """Until so many bytes are written, and then for some seconds more."""
    while size and written(folder) < size and process.poll() is None:
        time.sleep(0.001)
    time.sleep(seconds)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "kills"), [("autoregressive", 120, 20), ("sequoia", 40, 3)]
)
def test_a_killed_process_goes_on(name, count, kills, tmp_path, quick_compilation, capsys):
    """At moments that are drawn by what is written by then, or by the clock: while it loads, decodes, writes, saves.

    The next process starts while the one before it still runs, so that a life is not all start.
    """
    served, calls = killed.served(name), killed.asked(count)
    expected = [killed.row(each) for each in served.serve(calls, journal=tmp_path / "whole")]
    expected = {(tag, sample): own for tag, sample, own in expected}
    draw, whole, folder = random.Random(name), written(tmp_path / "whole"), tmp_path / "killed"
    sizes = sorted(draw.uniform(0, 0.9 * whole) for _ in range(kills))
    sizes = [0 if draw.random() < 0.2 else size for size in sizes]
    at = []  # how much had come back at each kill
    process = start(folder, name, count)
    for life in range(kills + 1):
        after = start(folder, name, count) if life < kills else None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        if life < kills:
            wait(process, folder, sizes[life], draw.uniform(0, 0.1))
            process.kill()
        # On a machine whose clock runs otherwise one may come to its end before it is killed.
        assert process.communicate()[0] in (("", "done\n") if life < kills else ("done\n",))
        at.append(len(Journal(folder).done))
        process = after
    results = [killed.row(each) for each in Journal(folder).results()]
    found = {(tag, sample): own for tag, sample, own in results}
    lost, twice = len(expected.keys() - found.keys()), len(results) - len(found)
    differ = sum(found[name] != own for name, own in expected.items() if name in found)
    with capsys.disabled():
        print(f"\n{name}: {kills} kills, {count} requests, {len(expected)} results: ", end="")
        print(f"{lost} lost, {twice} twice, {differ} differ; results at kills {at}")
    assert (lost, twice, differ, len(found)) == (0, 0, 0, len(expected))
