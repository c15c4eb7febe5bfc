"""Decoding algorithms for JAX and TPU: pure functions of (params, state, rng), exact where they say so.

The public names are those of `jaxdec.public`. They are imported when one is used, so that what needs none of them, such
as the help of the command line, need not wait for JAX.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdec.public import *  # noqa: F403

__version__ = "0.1.0"

_FUNCTIONS = {"autoregressive", "speculative"}
"""Public functions that have the name of a submodule: `jaxdec.speculative` is the function."""


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name != "__all__":  # what Python asks of any module
        raise AttributeError(f"module 'jaxdec' has no attribute {name!r}")
    if name not in _FUNCTIONS:
        try:
            return importlib.import_module(f"jaxdec.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"jaxdec.{name}":
                raise
    public = importlib.import_module("jaxdec.public")
    if name != "__all__" and name not in public.__all__:
        raise AttributeError(f"module 'jaxdec' has no attribute {name!r}")
    value = globals()[name] = getattr(public, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})


class _Package(types.ModuleType):
    """The import of a submodule sets it as an attribute; not so where a function has the name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _FUNCTIONS and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
