"""Hostile input: everything that takes input from outside, over inputs that a seed chooses."""

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.case import Case
from benchmarks.columns import Row, number, word
from benchmarks.progress import each
from benchmarks.setting import Setting

SEED = 14


def run(setting: Setting) -> list[Row]:
    """One row a surface."""
    from tests.fuzz.surfaces import SURFACES

    done = ROOT / "runs" / "fuzz" / f"{code()}-{setting.scale.fuzzed:g}.jsonl"
    return rows(list(SURFACES.values()), setting.scale.fuzzed, done)


def code() -> str:
    """What tells apart the code that parts were run with."""
    found = hashlib.sha256()
    for folder in ("jaxdec", "pallas_kernels", "tests/fuzz"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


def rows(surfaces: list[Any], share: float, done: Path, seed: int = SEED) -> list[Row]:
    """One row a surface, from parts; those that stand in `done`, of a run that was killed, are not run again.

    Args:
      surfaces: `tests.fuzz.surface.Surface`s.
      share: of the inputs of each.
      done: gets a line a part, as soon as it is done.
      seed: of the first part of each surface; each part has one of its own.
    """
    from tests.fuzz.running import counted

    parts = []
    for surface in surfaces:
        inputs = max(1, round(share * surface.long))
        sizes = [min(surface.part, inputs - start) for start in range(0, inputs, surface.part)]
        parts += [(surface, seed + part, size) for part, size in enumerate(sizes)]
    held = finished(done)
    done.parent.mkdir(parents=True, exist_ok=True)
    for surface, own, size in each(parts, "{0[0].name}, {0[2]} inputs by seed {0[1]}".format):
        if (surface.name, own, size) in held:
            continue
        start = time.perf_counter()
        found = dataclasses.asdict(counted(surface, own, size))
        line = {"surface": surface.name, "seed": own, "size": size, **found}
        line["seconds"] = time.perf_counter() - start
        held[surface.name, own, size] = line
        with done.open("a") as file:
            file.write(json.dumps(line) + "\n")
    found = []
    for surface in surfaces:
        own = [held[part.name, *rest] for part, *rest in parts if part is surface]
        total = {name: sum(line[name] for line in own) for name in COUNTED}
        inputs = sum(total[name] for name in COUNTED[:4])
        faults = [fault for line in own for fault in line["faults"]]
        row = {"surface": surface.name, "about": surface.about, "seed": seed, "parts": len(own)}
        found.append({**row, "inputs": inputs, **total, "faults": faults[:5]})
    every = {name: sum(row[name] for row in found) for name in ("parts", "inputs", *COUNTED)}
    return [*found, {"surface": "all", "about": "", "seed": seed, **every, "faults": []}]


COUNTED = ("refused", "taken", "mismatch", "traceback", "seconds")


def finished(done: Path) -> dict[Any, Row]:
    """The parts that a file holds; a line that was not written to its end is none."""
    held = {}
    for text in done.read_text().splitlines() if done.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        held[line["surface"], line["seed"], line["size"]] = line
    return held


CASE = Case(
    name="fuzz",
    order=16,
    about=(
        "Good and bad input of everything that takes input from outside (`tests/fuzz`), on tiny oracle models. A bad "
        "input has to be a ValueError of one line that names what is wrong, before anything is traced (on the command "
        "line: exit code 2 and a line on stderr); a good one has to give what it gives alone, bit for bit; a damaged "
        "file has to be refused, or to load as what was saved. Nothing is timed."
    ),
    models=None,
    columns=(
        ("surface", word("surface")),
        ("what", word("about")),
        ("seed", number("seed", "d")),
        ("parts", number("parts", "d")),
        ("inputs", number("inputs", "d")),
        ("refused", number("refused", "d")),
        ("taken, as alone", number("taken", "d")),
        ("mismatches", number("mismatch", "d")),
        ("tracebacks", number("traceback", "d")),
    ),
    legend="""\
*refused*: by a message that names what is wrong. *taken, as alone*: run, and equal to its solo run, or loaded as what
was saved. *mismatches*: taken and should have been refused, refused without a reason, or another result. *tracebacks*:
any other exception. Part p of a surface is drawn with seed + p; a run that is killed goes on with the part that it was
at (`runs/fuzz`).
""",
    labels=("surface",),
    run=run,
    modules=("hypothesis", "safetensors", "tokenizers"),
)
