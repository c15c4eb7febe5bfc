"""Real weights that come in packages of the Python index, as folders of Hugging Face files.

    python -m benchmarks.packages [--wheels DIR]

fetches each package without its dependencies, unpickles its weights (torch, `weights_only=True`: nothing that the file
names is run) and writes config.json, model.safetensors, tokenizer.json and the package's licence to a folder that is no
part of this repository. Needs the extra `parity`; what reads the folders does not.
"""

import argparse
import dataclasses
import fnmatch
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdec import files

CONFIG, WEIGHTS, TOKENIZER, LICENCE = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "LICENSE",
)


@dataclasses.dataclass(frozen=True)
class Package:
    """A package of the index that carries weights.

    Attributes:
      requirement: name and version.
      sha256: of its wheel.
      licence: in a word; the file goes with the weights.
      licence_file: in the wheel.
      vocabulary: in the wheel, a token a line.
      models: folder in the wheel, by the name of the folder that is written.
      fields: of the `config.json`, where the package keeps them in its code or says nothing.
      left_out: patterns of names: masks that follow from the positions, and tensors for other tasks.
      framed: whether `[CLS]` and `[SEP]` stand around a text.
    """

    requirement: str
    sha256: str
    licence: str
    licence_file: str
    vocabulary: str
    models: Mapping[str, str]
    fields: Mapping[str, Any]
    left_out: tuple[str, ...] = ()
    framed: bool = False


PACKAGES = (
    Package(
        requirement="iglm==0.1.0",
        sha256="6bb7b65c531583b10d3723dbfbc06e95b2cb30e3cc8cbf2fbc7eb22945e1c2be",
        licence="JHU Academic Software License: non-commercial use",
        licence_file="iglm-0.1.0.dist-info/LICENSE.md",
        vocabulary="iglm/trained_models/vocab.txt",
        models={"iglm": "iglm/trained_models/IgLM", "iglm-s": "iglm/trained_models/IgLM-S"},
        # The file has GPT-2's own 50256; the package's code ends a text with [CLS] and pads with [PAD].
        fields={"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0},
        left_out=("*.attn.bias", "*.attn.masked_bias"),
    ),
    Package(
        requirement="antiberty==0.1.3",
        sha256="30d910992b190013871bac49cdc032e01a19339f7d2b958ab99b0eb44638352a",
        licence="MIT",
        licence_file="antiberty-0.1.3.dist-info/LICENSE.MD",
        vocabulary="antiberty/trained_models/vocab.txt",
        models={"antiberty": "antiberty/trained_models/AntiBERTy_md_smooth"},
        fields={"architectures": ["BertForMaskedLM"], "mask_token_id": 4},
        left_out=(
            "bert.embeddings.position_ids",
            "bert.pooler.*",
            "cls.species.*",
            "cls.chain.*",
            "cls.graft.*",
        ),
        framed=True,
    ),
)


def folder() -> Path:
    """Where the folders lie: the one in `JAXDEC_PACKAGES`, else the user's cache."""
    named = os.environ.get("JAXDEC_PACKAGES")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxdec" / "packages"


def path(name: str) -> Path:
    """The folder of a model.

    Raises:
      ValueError: if it was not fetched yet.
    """
    found = folder() / name
    if not (found / WEIGHTS).is_file():
        raise ValueError(
            f"no weights in {found}; `python -m benchmarks.packages` fetches and converts them (extra parity)"
        )
    return found


def vocabulary(name: str) -> dict[str, int]:
    """The tokens of a model by their words. Raises `ValueError` as `path`."""
    return json.loads((path(name) / TOKENIZER).read_text())["model"]["vocab"]


def convert(package: Package, wheel: Path, to: Path) -> None:
    """Writes the folders of a package.

    Args:
      package: what is in the wheel.
      wheel: its file.
      to: the folder of the folders.

    Raises:
      ValueError: if the wheel is another one.
    """
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != package.sha256:
        raise ValueError(f"{wheel} has the hash {found}, not {package.sha256}")
    with zipfile.ZipFile(wheel) as archive:
        words = archive.read(package.vocabulary).decode().split()
        for name, source in package.models.items():
            fields = {**json.loads(archive.read(f"{source}/config.json")), **package.fields}
            weights = tensors(archive.read(f"{source}/pytorch_model.bin"), package.left_out)
            with files.whole_folder(to / name, replace=True) as draft:
                write(draft, fields, weights, tokenizer(words, package.framed))
                (draft / LICENCE).write_bytes(archive.read(package.licence_file))


def tensors(pickled: bytes, left_out: tuple[str, ...]) -> dict[str, Any]:
    """The tensors of a PyTorch file, each in memory of its own."""
    import torch

    held = torch.load(io.BytesIO(pickled), map_location="cpu", weights_only=True)
    return {
        name: x.clone().contiguous()
        for name, x in held.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in left_out)
    }


def write(to: Path, fields: Mapping[str, Any], weights: Mapping[str, Any], words: Any) -> None:
    """Writes the files of a checkpoint."""
    from safetensors.torch import save_file

    save_file(dict(weights), to / WEIGHTS, metadata={"format": "pt"})
    for name, held in ((CONFIG, fields), (TOKENIZER, words)):
        (to / name).write_text(json.dumps(held, indent=1) + "\n")


def tokenizer(words: list[str], framed: bool = False) -> dict[str, Any]:
    """A `tokenizer.json`: a letter a token, and words in brackets that are special."""
    numbers = {word: i for i, word in enumerate(words)}
    special = [word for word in words if word.startswith("[")]
    piece = lambda word: {"SpecialToken": {"id": word, "type_id": 0}}
    middle = {"Sequence": {"id": "A", "type_id": 0}}
    frame = {
        "type": "TemplateProcessing",
        "single": [piece("[CLS]"), middle, piece("[SEP]")],
        "pair": [piece("[CLS]"), middle, piece("[SEP]")],
        "special_tokens": {
            word: {"id": word, "ids": [numbers[word]], "tokens": [word]}
            for word in ("[CLS]", "[SEP]")
        },
    }
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": numbers[word],
                "content": word,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for word in special
        ],
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "."},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": frame if framed else None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": numbers, "unk_token": "[UNK]"},
    }


def fetch(package: Package, to: Path) -> Path:
    """Fetches the wheel of a package to a folder, from the index that pip uses."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(to)]
    subprocess.run([*command, package.requirement], check=True)
    return to


def wheel_of(package: Package, held: Path) -> Path:
    """The wheel of a package in a folder. Raises `ValueError` if it is not there."""
    name = package.requirement.replace("==", "-")
    found = sorted(held.glob(f"{name}-*.whl"))
    if not found:
        raise ValueError(f"no wheel of {package.requirement} in {held}")
    return found[0]


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packages", description=__doc__)
    parser.add_argument("--wheels", type=Path, help="folder of wheels that were fetched before")
    parsed = parser.parse_args(arguments)
    try:
        for package in PACKAGES:
            with tempfile.TemporaryDirectory() as draft:
                held = parsed.wheels or fetch(package, Path(draft))
                convert(package, wheel_of(package, held), folder())
            for name in package.models:
                print(f"{folder() / name}: {package.requirement} ({package.licence})")
    except ImportError as error:
        print(f"error: {error}; torch reads the pickles (extra parity)", file=sys.stderr)
        return 2
    except (ValueError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
