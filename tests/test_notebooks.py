"""The notebooks run from top to bottom, and are kept without outputs."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = [pytest.param(path, id=path.stem) for path in sorted((ROOT / "colab").glob("*.ipynb"))]
SECONDS = 900  # for one cell, on a busy machine


def read(path):
    notebook = nbformat.read(path, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_kept_clean(path):
    notebook, cells = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.colab is not None
    for cell in cells:
        assert cell.outputs == [] and cell.execution_count is None, cell.source


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_opens_in_colab(path, monkeypatch):
    notebook, cells = read(path)
    badge = notebook.cells[0]
    assert badge.cell_type == "markdown"
    assert (
        f"colab.research.google.com/github/jaxdec/jaxdec/blob/main/colab/{path.name}"
        in badge.source
    )
    assert notebook.metadata.accelerator == "TPU"
    lines = []
    shell = SimpleNamespace(run_line_magic=lambda *words: lines.append(words))
    code = TransformerManager().transform_cell(cells[0].source)
    names = {"get_ipython": lambda: shell}
    exec(code, names)  # not in Colab: nothing is installed
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    exec(code, names)  # there is a jaxdec already
    assert lines == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(code, names)
    assert lines == [("pip", 'install -q "jaxdec[notebooks] @ {SOURCE}"')]
    assert names["SOURCE"].startswith("git+https://github.com/")  # it is not on a package index


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS)
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    # Compiling is most of the work: this takes half of the time.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the kernel starts in the temporary folder
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook, cells = read(path)
    NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()  # raises if a cell does
    for cell in cells:
        said = [o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]
        assert "Traceback" not in "".join(said), "".join(said)
