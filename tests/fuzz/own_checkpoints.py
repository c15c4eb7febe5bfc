"""Folders of this package's own checkpoints, of every shipped kind, damaged and edited.

What loads is what was saved, bit for bit; anything else is refused by the name of the folder.
"""

import dataclasses
import functools
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st

from jaxdec import checkpoint_folder, checkpoints, files
from jaxdec.models import HeadsConfig, ScoreConfig, TransformerConfig, build_heads
from jaxdec.models.heads import sizes_of
from jaxdec.training.trainer import build
from tests.fuzz.damage import Damage, Edit, copied, damages, do, edits
from tests.fuzz.surface import REFUSED, TAKEN, Surface, check_message, mixed

SMALL = dict(vocab_size=260, width=8, layers=1, heads=1, kv_heads=1, head_dim=8, hidden=8)


@functools.cache
def root() -> Path:
    logging.getLogger("absl").setLevel(
        logging.CRITICAL
    )  # orbax's, of files that are damaged on purpose
    holder = tempfile.TemporaryDirectory()
    root.holder = holder  # type: ignore[attr-defined]  # removed at exit
    return Path(holder.name)


KINDS = tuple(checkpoint_folder.available())


@functools.cache
def saved(name: str) -> Path:
    """A tiny checkpoint of the kind of a shipped one."""
    held = json.loads((checkpoint_folder.folder() / name / "config.json").read_text())
    path = root() / name
    options = {
        key: held[key]
        for key in ("fills", "mask_token", "block_size", "heads", "target")
        if key in held
    }
    seed = KINDS.index(name)
    sizes: Any = sizes_of(held["heads"]) if "heads" in held else TransformerConfig
    if sizes is HeadsConfig:
        config: Any = HeadsConfig(260, 8, heads=2)
    elif sizes is ScoreConfig:
        config = ScoreConfig(8, 4)
    elif not issubclass(sizes, TransformerConfig):  # tiny as they are
        config = sizes(**held["model"])
    else:
        small = {**held["model"], **SMALL}
        if small.get("experts"):
            small |= {"experts": 2, "experts_per_token": 1} & small.keys() or {}
        config = sizes(**small)
    params = (
        build_heads(held["heads"], config)[1] if "heads" in held else build(config, seed=seed)[1]
    )
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    params = structure.unflatten([rng.normal(size=x.shape).astype(np.float32) for x in leaves])
    checkpoints.save(path, config, params, eos=held["eos"], facts={"about": name}, **options)
    return path


def loaded(path: Path) -> tuple[Any, ...]:
    """Everything that was loaded, as bytes and values."""
    found = checkpoints.load_any(path)
    leaves, structure = jax.tree.flatten(found.params)
    named = ("config", "facts", "fills", "mask_token", "block_size", "kind", "target")
    facts = [getattr(found, name, None) for name in named]
    eos = getattr(found.model, "eos", None)
    return str(structure), [np.asarray(x).tobytes() for x in leaves], facts, eos


@functools.cache
def original(name: str) -> tuple[Any, ...]:
    return loaded(saved(name))


@dataclasses.dataclass(frozen=True)
class Case:
    """A checkpoint, what is done to its folder, and an edit of its configuration whose hash is written anew."""

    name: str
    other: str
    damages: tuple[Damage, ...] = ()
    edit: Edit | None = None
    listed: int | None = None


def attempt(given: Case) -> str:
    expected = original(given.name)
    path = copied(saved(given.name), root() / "copy")
    for damage in given.damages:
        do(damage, path, saved(given.other))
    if given.edit is not None:
        given.edit.do(path / "config.json")
        files.write_sums(path, ["config.json", "weights"])
    if given.listed is not None:  # a file that is damaged, and no longer listed
        sums = path / files.SUMS
        if not sums.is_file():
            return REFUSED
        lines = sums.read_text().splitlines(keepends=True)
        name = lines.pop(given.listed % len(lines)).split("  ")[1].strip()
        sums.write_text("".join(lines))
        if (path / name).is_file():
            (path / name).write_bytes((path / name).read_bytes()[:-1] + b"\0")
    try:
        found = loaded(path)
    except ValueError as error:
        check_message(error, *() if given.edit is not None else ("copy",))
        return REFUSED
    # Facts, ends and the like may be edited, with their hash; a network is what its configuration says, or refused.
    same = found[:2] == expected[:2] if given.edit is not None else found == expected
    assert same, f"{given} loads as something else: {found[2:]}"
    return TAKEN


several = st.lists(damages(), min_size=1, max_size=2).map(tuple)
pair = (st.sampled_from(KINDS), st.sampled_from(KINDS))
inputs = mixed(
    (7, st.builds(Case, *pair, several)),
    (2, st.builds(Case, *pair, edit=edits)),
    (1, st.builds(Case, *pair, listed=st.integers(0, 40))),
)

SURFACE = Surface(
    name="checkpoints",
    about="folders of checkpoints of every shipped kind: damaged, cut off, renamed, exchanged, edited",
    inputs=inputs,
    attempt=attempt,
    short=25,
    slow=400,
    long=2_500,
    part=100,
)
