"""`import jaxdec` waits for nothing, and gives every public name."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

import jaxdec
from jaxdec import public

ROOT = Path(__file__).parents[1]


def python(code):
    """What a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_every_public_name_is_there():
    for name in public.__all__:
        assert getattr(jaxdec, name) is getattr(public, name)
        assert name in dir(jaxdec)
    names = {}
    exec("from jaxdec import *", names)
    assert {*public.__all__} <= names.keys()
    with pytest.raises(AttributeError, match="'nonsense'"):
        _ = jaxdec.nonsense


def test_functions_with_the_name_of_a_submodule_are_known():
    there = {path.stem for path in (ROOT / "jaxdec").iterdir()}
    functions = {
        name
        for name in {*public.__all__} & there
        if not isinstance(getattr(public, name), types.ModuleType)
    }
    assert functions == jaxdec._FUNCTIONS


def test_the_order_of_imports_does_not_matter():
    """A submodule that is imported first brings no other in its place, and no circle."""
    code = """
import sys
import jaxdec
assert "jax" not in sys.modules
from jaxdec.speculative.tree import RankTree
from jaxdec.autoregressive import Autoregressive
from jaxdec import speculative
import jaxdec.model
assert jaxdec.autoregressive.__module__ == "jaxdec.autoregressive"
assert callable(jaxdec.autoregressive) and callable(speculative)
assert jaxdec.RankTree is RankTree and jaxdec.decoding.run is jaxdec.run
print("good")
"""
    assert python(code) == "good\n"
