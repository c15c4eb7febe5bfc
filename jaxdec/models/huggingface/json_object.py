"""Files that hold one JSON object."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
      ValueError: if it holds none.
    """
    try:
        held = json.loads(path.read_bytes())
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise ValueError(f"{path} is not a JSON object")
    return held
