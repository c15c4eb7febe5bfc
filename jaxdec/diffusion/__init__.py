"""Masked and block diffusion decoding: schedules, unmasking policies, remasking and caches on one canvas loop."""

from jaxdec.diffusion import caches, schedules, unmask
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.canvas import Canvas
from jaxdec.diffusion.decoder import Denoise, DenoiseState, denoise
from jaxdec.diffusion.diffuspec import DiffuSpec, diffuspec
from jaxdec.diffusion.models import canvas_model, next_token
from jaxdec.diffusion.parts import Fuse, Remask, Stop, backtracking, credit, prophet
from jaxdec.diffusion.unmask import Unmask

__all__ = [
    "Candidates",
    "Canvas",
    "Denoise",
    "DenoiseState",
    "DiffuSpec",
    "Fuse",
    "Remask",
    "Stop",
    "Unmask",
    "backtracking",
    "caches",
    "canvas_model",
    "credit",
    "denoise",
    "diffuspec",
    "next_token",
    "prophet",
    "schedules",
    "unmask",
]
