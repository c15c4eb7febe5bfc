"""Imports the packages with the text of one file replaced."""

import importlib.abc
import importlib.machinery
import sys
from pathlib import Path


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a given text instead of the file's own; reads and writes no bytecode."""

    text: str

    def get_code(self, fullname):
        """The code of the text, with the file's name in its tracebacks."""
        return compile(self.text, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, path: Path, text: str):
        self.path, self.text = path, text

    def find_spec(self, fullname, path, target=None):
        """The ordinary specification, with another loader for the one file."""
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin and Path(spec.origin) == self.path:
            spec.loader = _Loader(fullname, spec.origin)
            spec.loader.text = self.text
        return spec


def replace(path: Path, text: str) -> None:
    """Modules imported from now on get `text` for the file at `path`.

    Raises:
      RuntimeError: if a module of that file is loaded already.
    """
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(path):
            raise RuntimeError(f"{module.__name__} is loaded already")
    sys.meta_path.insert(0, _Finder(path, text))
