"""What is wrong with a folder is said in one line that names the file, and the tensor if it is one."""

import json
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxdec.models import huggingface
from tests.models.huggingface import tiny
from tests.models.huggingface.test_round_trips import random_params

NORM, UP = "model.norm.weight", "model.layers.1.mlp.up_proj.weight"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint in several files, with an index."""
    path = tmp_path_factory.mktemp("whole") / "held"
    fields = tiny.fields("llama")
    architecture = huggingface.of_fields(fields)
    config = architecture.config(fields)
    params = random_params(architecture, config, jnp.float32)
    huggingface.save(path, params, config, largest=30_000)
    assert huggingface.load(path).config == config
    return path


@pytest.fixture
def folder(whole, tmp_path):
    """A copy to damage."""
    return shutil.copytree(whole, tmp_path / "held")


def message(folder):
    with pytest.raises(ValueError) as raised:
        huggingface.load(folder)
    said = str(raised.value)
    assert "\n" not in said and len(said) < 500, said
    return said


def holder(folder, name):
    """The file that holds a tensor."""
    return folder / json.loads((folder / INDEX).read_text())["weight_map"][name]


def change(file, **changes):
    """Writes a file again with other tensors; one that becomes None is left out."""
    tensors = {**load_file(file), **changes}
    save_file({name: x for name, x in tensors.items() if x is not None}, file)


@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_a_file_that_is_cut_off(folder, left):
    file = holder(folder, UP)
    file.write_bytes(file.read_bytes()[:left])
    assert f"{file} is damaged or cut off" in message(folder)


def test_a_file_of_noise(folder):
    file = holder(folder, UP)
    file.write_bytes(np.random.default_rng(0).bytes(500))
    assert f"{file} is damaged or cut off" in message(folder)


def test_a_tensor_that_is_foreign(folder):
    file, name = holder(folder, UP), "model.layers.1.mlp.up_proj.bias"
    change(file, **{name: np.zeros(48, np.float32)})
    assert re.search(rf"{file}: tensor '{name}' is unknown to llama .*\(1 such\)", message(folder))


def test_a_tensor_of_another_shape(folder):
    file = holder(folder, UP)
    change(file, **{UP: load_file(file)[UP].T.copy()})
    said = f"{file}: tensor '{UP}' has shape [32, 48], expected [48, 32]"
    assert message(folder) == said


def test_a_tensor_of_integers(folder):
    file = holder(folder, UP)
    change(file, **{UP: np.ones((48, 32), np.int8)})
    assert f"{file}: tensor '{UP}' holds I8, only float64" in message(folder)


def test_a_tensor_that_is_missing(folder):
    change(holder(folder, NORM), **{NORM: None})
    assert message(folder) == f"{folder}: tensor '{NORM}' is missing"


def test_a_file_that_is_missing(folder):
    file = holder(folder, UP)
    file.unlink()
    assert message(folder) == f"{file}, which {INDEX} names, is missing"


def test_two_files_with_one_tensor(folder):
    one, other = holder(folder, NORM), holder(folder, "model.embed_tokens.weight")
    change(other, **{NORM: np.ones(32, np.float32)})
    assert re.fullmatch(
        rf"tensor '{NORM}' stands in ({one} and {other}|{other} and {one})", message(folder)
    )


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": 3}', '{"weight_map": null}'])
def test_an_index_without_its_map(folder, content):
    (folder / INDEX).write_text(content)
    assert message(folder) == f"{folder / INDEX} has no weight_map"


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", ""])
def test_an_index_that_leads_elsewhere(folder, name):
    (folder / INDEX).write_text(json.dumps({"weight_map": {NORM: name}}))
    assert message(folder) == f"{folder / INDEX} names {name!r}, which is no file of its folder"


def test_weights_that_are_pickled(folder):
    for file in [folder / INDEX, *folder.glob("*.safetensors")]:
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    said = message(folder)
    assert f"{folder / 'pytorch_model.bin'} is pickled" in said
    assert "weights_only=True" in said and "model.safetensors" in said


def test_weights_that_are_quantised(folder):
    file = folder / "config.json"
    held = json.loads(file.read_text()) | {"quantization_config": {"quant_method": "gptq"}}
    file.write_text(json.dumps(held))
    assert message(folder).startswith(f"{file}: quantization_config")
