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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "kills"), [("autoregressive", 200, 20), ("sequoia", 60, 3)]
)
def test_a_killed_process_goes_on(name, count, kills, tmp_path, quick_compilation, capsys):
    """The next process starts while the one before it still runs, so that a life is not all start."""
    draw = random.Random(name)
    at = []  # how much had come back at each kill
    process = start(tmp_path, name, count)
    for life in range(kills + 1):
        after = start(tmp_path, name, count) if life < kills else None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        if life < kills:
            time.sleep(draw.uniform(0.0, 0.6))
            assert process.poll() is None
            process.kill()
        assert process.communicate()[0] == ("" if life < kills else "done\n")
        at.append(len(Journal(tmp_path).done))
        process = after
    assert at[-2] < at[-1] and len(set(at)) > kills // 2  # they fell into the work
    found = [killed.row(each) for each in Journal(tmp_path).results()]
    whole = {(tag, sample): own for tag, sample, own in found}
    expected = [killed.row(each) for each in killed.served(name).serve(killed.asked(count))]
    expected = {(tag, sample): own for tag, sample, own in expected}
    lost, twice = len(expected.keys() - whole.keys()), len(found) - len(whole)
    differ = sum(whole[name] != own for name, own in expected.items() if name in whole)
    with capsys.disabled():
        print(f"\n{name}: {kills} kills, {count} requests, {len(expected)} results: ", end="")
        print(f"{lost} lost, {twice} twice, {differ} differ; results at kills {at}")
    assert (lost, twice, differ, len(whole)) == (0, 0, 0, len(expected))
