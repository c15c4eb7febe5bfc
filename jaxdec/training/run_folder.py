"""The folder of a run: the configuration that it holds, and the log of its losses."""

import json
from pathlib import Path
from typing import Any, TextIO

from jaxdec import files


def extended_from(folder: Path, steps: int) -> tuple[int, ...]:
    """The numbers of steps, in turn, that the run of a folder was given before it is given `steps`.

    Args:
      folder: of the run; need not exist.
      steps: of the configuration that is to run there.

    Raises:
      ValueError: if the folder holds something else, or a run of more steps.
    """
    held = held_by(Path(folder)) or {"steps": steps}
    if held["steps"] > steps:
        raise ValueError(
            f"{folder} holds a run with {held['steps']} steps, more than {steps}; use a new folder"
        )
    earlier = tuple(held.get("extended_from", ()))
    return (*earlier, held["steps"]) if held["steps"] < steps else earlier


def held_by(folder: Path) -> dict[str, Any] | None:
    """The configuration of the run that a folder holds; None if it holds none.

    Raises:
      ValueError: if it holds something else.
    """
    path = folder / "config.json"
    if not path.exists():
        return None
    try:
        held = files.read_json(path)
    except ValueError:
        held = {}
    if not isinstance(held.get("steps"), int):
        raise ValueError(f"{path} is not the configuration of a run")
    return held


def claim(folder: Path, run: dict[str, Any]) -> None:
    """Writes the run's configuration, or checks that the folder holds this very run, with as many steps or fewer.

    Raises:
      ValueError: if the folder holds another run.
    """
    run = json.loads(json.dumps(run))
    held = held_by(folder)
    if held is not None:
        changed = {k for k in run.keys() | held.keys() if run.get(k) != held.get(k)}
        changed -= {"extended_from", "steps"}
        if changed:
            raise ValueError(
                f"{folder} holds another run: {', '.join(sorted(changed))} differ; use a new folder"
            )
        earlier = extended_from(folder, run["steps"])
        if run["steps"] == held["steps"]:
            return
        run["extended_from"] = list(earlier)
    files.write_whole(folder / "config.json", json.dumps(run, indent=2) + "\n")


def losses(path: Path, start: int) -> TextIO:
    """Opens the log for appending after `start` steps; later lines of a killed run are dropped."""
    lines = path.read_text().splitlines() if path.exists() else []
    files.write_whole(path, "".join(line + "\n" for line in lines[:start]))
    return path.open("a")
