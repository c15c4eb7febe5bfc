"""Checkpoints: what is written is read back, and what is damaged or edited wrongly is said in one line."""

import json
import shutil

import jax
import numpy as np
import pytest

from jaxdec import checkpoint_folder, checkpoints, files, text
from jaxdec.models import HeadsConfig, TransformerConfig
from jaxdec.models.heads import build_heads
from jaxdec.training.trainer import build

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = TransformerConfig(260, 8, layers=1, heads=1, kv_heads=1, head_dim=8, hidden=8)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints") / "tiny"
    checkpoints.save(path, TINY, build(TINY)[1], eos=[text.EOS])
    return path


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def message(path, load=checkpoints.load_any):
    with pytest.raises(ValueError) as raised:
        load(path)
    said = str(raised.value)
    assert said.count("\n") == 0 and len(said) < 300, said
    for word in ("orbax", "tensorstore", "Traceback", "/site-packages"):
        assert word not in said
    return said


def test_saved_parameters_come_back_uncommitted(saved):
    loaded = checkpoints.load(saved)
    expected = jax.tree.map(
        lambda x: np.asarray(x.astype("bfloat16").astype("float32")), build(TINY)[1]
    )
    jax.tree.map(np.testing.assert_array_equal, loaded.params, expected)
    assert loaded.model.eos == (text.EOS,)
    for leaf in jax.tree.leaves(loaded.params):
        assert not leaf.committed  # else a program compiles again for what it has returned itself


def test_a_flipped_bit_anywhere_is_seen(saved, tmp_path):
    names = [path.relative_to(saved) for path in saved.rglob("*") if path.is_file()]
    assert len(names) > 5
    for i, name in enumerate(names):
        copy = shutil.copytree(saved, tmp_path / str(i))
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 4
        (copy / name).write_bytes(content)
        assert "is damaged" in message(copy), name
        (copy / name).unlink()
        with pytest.raises(ValueError, match=r"copy|missing|no SHA256SUMS|no checkpoint"):
            checkpoints.load_any(copy)


@pytest.mark.parametrize("name", ["config.json", "weights/_METADATA"])
def test_a_file_that_is_not_listed_is_seen(copy, name):
    sums = copy / files.SUMS
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line for line in lines if not line.endswith(f"  {name}\n")))
    (copy / "weights" / ".hidden").write_text("of a file manager")
    assert f"{name} is not in its {files.SUMS}" in message(copy)


def test_the_shipped_checkpoints_have_hashes_of_all_their_files():
    for name in checkpoint_folder.available():
        path = checkpoint_folder.folder() / name
        files.check_sums(path, checkpoint_folder.HASHED)
        held = {line.split("  ")[1] for line in (path / files.SUMS).read_text().splitlines()}
        there = {each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()}
        assert there - held == {"README.md", files.SUMS}, name


EDITS = {
    "a string among eos": ({"eos": ["257"]}, "eos"),
    "a nested eos": ({"eos": [[257]]}, "eos"),
    "eos outside": ({"eos": [260]}, "token 260 is outside its vocabulary of 260"),
    "a true eos": ({"eos": [True]}, "eos"),
    "no list": ({"eos": 257}, "eos"),
    "facts": ({"facts": None}, "facts"),
    "a type": ({"dtype": "float99"}, "float99"),
    "no type": ({"dtype": 3}, "dtype"),
    "sizes": ({"model": {"width": 8}}, "sizes"),
    "a size of another kind": ({"model": {**vars(TINY), "width": "8"}}, "sizes"),
    "more layers than any": ({"model": {**vars(TINY), "layers": 2**60}}, "layers"),
    "another width": ({"model": {**vars(TINY), "width": 16}}, "weights"),
    "fills": ({"fills": "holes", "mask_token": 259}, "fills"),
    "no mask": ({"fills": "canvas"}, "mask_token"),
    "a mask outside": ({"fills": "canvas", "mask_token": 300}, "300"),
    "a block": ({"block_size": 0}, "block_size"),
    "heads": ({"heads": "hydro", "target": "x"}, "hydro"),
    "heads of nothing": ({"heads": "medusa"}, "target"),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", EDITS)
def test_a_configuration_edited_wrongly(copy, name):
    changes, expected = EDITS[name]
    held = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(held | changes))
    checkpoints.write_sums(copy)
    said = message(copy)
    assert "copy" in said and "damaged" in said and expected in said


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"eos": []', '{"eos":' * 20_000])
def test_no_configuration(copy, content):
    (copy / "config.json").write_text(content)
    assert "damaged" in message(copy)


def test_an_edited_configuration_is_taken_with_its_new_hash(copy):
    held = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(held | {"eos": [1, 2]}))
    assert "config.json has another hash" in message(copy)
    checkpoints.write_sums(copy)
    assert checkpoints.load(copy).model.eos == (1, 2)


def test_a_hugging_face_folder_is_read_as_one(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))
    for load in (checkpoints.load, checkpoints.load_any):
        said = message(tmp_path, load)
        assert "config.json: the configuration has no" in said and "damaged" not in said
    assert "not draft heads" in message(tmp_path, checkpoints.load_heads)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def fails(*arguments):
        raise OSError("no room")

    path = tmp_path / "new"
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_sums", fails)
        with pytest.raises(OSError, match="no room"):
            checkpoints.save(path, TINY, build(TINY)[1])
    assert list(tmp_path.iterdir()) == []
    path.mkdir()  # an empty folder is taken
    config = HeadsConfig(260, 8, heads=2)
    params = build_heads("medusa", config)[1]
    checkpoints.save(path, config, params, heads="medusa", target="tiny")
    assert checkpoints.load_heads(path).config == config
    with pytest.raises(ValueError, match="holds a checkpoint already"):
        checkpoints.save(path, config, params, heads="medusa", target="tiny")
