"""Remask rules: which committed tokens of the active group are taken back."""

from jaxdec.diffusion.remask.backtracking import Backtracking, backtracking
from jaxdec.diffusion.remask.contract import Remask
from jaxdec.diffusion.remask.editing import Editing, editing
from jaxdec.diffusion.remask.refining import Refining, refining

__all__ = [
    "Backtracking",
    "Editing",
    "Refining",
    "Remask",
    "backtracking",
    "editing",
    "refining",
]
