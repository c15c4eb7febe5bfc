"""Parts of a long case that are kept as they are done, so that a run which was ended goes on where it was."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from benchmarks.columns import Row
from jaxdec.measuring import machine

FOLDER = "JAXDEC_PARTS"
"""The variable of the environment that names the folder; nothing is kept without it."""


def part(name: str, make: Callable[[], Row]) -> Row:
    """A row: as it was kept, if this commit has made it before, else made now and kept; changed code keeps nothing.

    Args:
      name: of the part, with whatever sizes it depends on; a file name.
      make: makes the row.
    """
    folder, commit = os.environ.get(FOLDER), machine.commit()
    if not folder or commit is None or commit.endswith("-dirty"):
        return make()
    path = Path(folder) / f"{name}-{commit}.json"
    if path.is_file():
        return json.loads(path.read_text())
    row = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    held = path.with_suffix(".part")
    held.write_text(json.dumps(row, allow_nan=False))
    held.replace(path)
    return row
