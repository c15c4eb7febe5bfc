"""An engine between two polls as a folder, whole or not at all.

<folder>/arrays/      the state on the device, written by orbax; of keys, their data
<folder>/host.json    the requests that are not completed, counters; what the engine is
<folder>/SHA256SUMS   hashes of both, checked on loading
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxdec import files
from jaxdec.decoding import Status
from jaxdec.generation.requests import identity
from jaxdec.generation.requests.backlog import Live
from jaxdec.generation.requests.written import (
    call_from_json,
    call_to_json,
    from_json,
    to_json,
)

if TYPE_CHECKING:
    from jaxdec.generation.requests.engine import Engine

HASHED = ("arrays", "host.json")
"""What the hashes of a folder are of."""

_VERSION = 1


def save(engine: "Engine", folder: str | Path) -> None:
    """See `Engine.save`."""
    import orbax.checkpoint as ocp

    path = Path(folder).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} holds something already")
    engine._flush()
    data = _data(engine._state)
    held = {
        "version": _VERSION,
        "decodes": engine.identity,
        "sizes": identity.sizes(engine),
        "state": identity.leaves(data),
        "host": _host(engine),
    }
    text = json.dumps(held) + "\n"  # first: a request may hold what cannot be stored
    arrays = {str(i): x for i, x in enumerate(jax.device_get(jax.tree.leaves(data))) if x.size}
    with files.whole_folder(path) as draft:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(draft / "arrays", arrays)
        # A marker that orbax writes and does not read back; it names this machine's folders.
        (draft / "arrays" / "commit_success.txt").unlink(missing_ok=True)
        (draft / "host.json").write_text(text)
        files.write_sums(draft, HASHED)


def load(engine: "Engine", folder: str | Path) -> None:
    """See `Engine.load`."""
    path = Path(folder).absolute()
    if engine.pending:
        raise ValueError(
            f"{engine.pending} requests of the engine are not completed; load into one that has none"
        )
    if not path.is_dir():
        raise ValueError(f"there is no folder {path}")
    held = _checked(path)
    own = {"decodes": engine.identity, "sizes": identity.sizes(engine)}
    data = _data(engine._state)
    own["state"] = identity.leaves(data)
    for name in ("decodes", "sizes", "state"):
        found = identity.difference(held[name], own[name], "state" if name == "state" else "")
        if found:
            raise ValueError(f"{path} was saved by another engine: {found}")
    try:
        live, rest = _read_host(held["host"])
        arrays = _restore(path / "arrays", data)
    except Exception as error:  # of many kinds
        raise ValueError(f"{path} is damaged: it does not hold what its host.json says") from error
    engine._state = _placed(engine, arrays)
    engine._live = live
    engine._dropped = {int(name): Status(status) for name, status in rest["dropped"]}
    engine._next, engine._group, engine._clock = rest["next"], rest["group"], rest["clock"]
    engine.counts = rest["counts"]
    engine._backlog.waiting, engine._backlog.load = rest["waiting"], rest["load"]


def _checked(path: Path) -> dict[str, Any]:
    """What `host.json` holds."""
    try:
        files.check_sums(path, HASHED)
        held = files.read_json(path / "host.json")
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is damaged, or no engine was saved there: {error}") from None
    if not isinstance(held, dict) or held.keys() != {
        "version",
        "decodes",
        "sizes",
        "state",
        "host",
    }:
        raise ValueError(f"no engine was saved in {path}: its host.json says something else")
    if held["version"] != _VERSION:
        raise ValueError(
            f"{path} was saved in version {held['version']!r} of the format; this is version {_VERSION}"
        )
    return held


def _host(engine: "Engine") -> dict[str, Any]:
    """What the host knows, for JSON. Of moments of its clock, how far off they are: that clock is the process's own."""
    now = time.monotonic()
    calls: dict[int, int] = {}
    written: list[Any] = []
    live: list[Any] = []
    for name, each in engine._live.items():
        if id(each.call) not in calls:  # samples of one prompt share it
            calls[id(each.call)] = len(written)
            written.append(call_to_json(each.call))
        order = None if each.order is None else to_json(each.order)
        left = None if each.until is None else each.until - now
        own = [name, calls[id(each.call)], each.sample, each.lane, order, left, each.seen]
        live.append(own)
    return {
        "calls": written,
        "live": live,
        "dropped": [[name, int(status)] for name, status in engine._dropped.items()],
        "next": engine._next,
        "group": engine._group,
        "clock": engine._clock,
        "counts": engine.counts,
        "waiting": engine._backlog.waiting,
        "load": engine._backlog.load,
    }


def _read_host(held: dict[str, Any]) -> tuple[dict[int, Live], dict[str, Any]]:
    now = time.monotonic()
    calls = [call_from_json(call) for call in held["calls"]]
    live = {}
    for name, call, sample, lane, order, left, seen in held["live"]:
        until = None if left is None else now + left
        live[name] = Live(calls[call], sample, lane, from_json(order), until, seen)
    return live, held


def _is_key(x: jax.Array) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _data(state: Any) -> Any:
    """A state with the data of its keys in place of the keys."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def _restore(path: Path, like: Any) -> Any:
    """The arrays of a state `like` this, on the host."""
    import orbax.checkpoint as ocp

    shapes, tree = jax.tree.flatten(like)
    blank = {str(i): np.zeros(x.shape, x.dtype) for i, x in enumerate(shapes)}
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(path, {name: x for name, x in blank.items() if x.size})
    for name, x in found.items():
        if (x.shape, x.dtype) != (blank[name].shape, blank[name].dtype):
            raise ValueError(f"array {name} is {x.dtype}{list(x.shape)}")
    return jax.tree.unflatten(tree, [found.get(name, x) for name, x in blank.items()])


def _placed(engine: "Engine", arrays: Any) -> Any:
    """Arrays of the host where those of the engine's state lie, with keys again."""

    def place(own: jax.Array, x: np.ndarray) -> jax.Array:
        if _is_key(own):
            like = jax.random.key_data(own)
            return jax.random.wrap_key_data(place(like, x), impl=jax.random.key_impl(own))
        # Not committed to the device where nothing is placed: programs would be compiled again for such arrays.
        where = None if engine.placement is None else own.sharding
        return jax.device_put(x, where, may_alias=False)

    return jax.tree.map(place, engine._state, arrays)
