"""Masked and block diffusion decoding: schedules, unmasking policies, remasking and caches on one canvas loop."""

from jaxdec.diffusion import refresh, schedules, unmask
from jaxdec.diffusion.candidates import Candidates, Progress, ranked, top
from jaxdec.diffusion.canvas import Canvas
from jaxdec.diffusion.contract import Unmask
from jaxdec.diffusion.decoder import denoise
from jaxdec.diffusion.fuse import Fuse, Standing, credit, orthogonal_repulsion
from jaxdec.diffusion.grow import Grow, daedal, end_of_text
from jaxdec.diffusion.joint import Joint, Revealed, adjust
from jaxdec.diffusion.loop import Denoise
from jaxdec.diffusion.remask import Remask, backtracking, editing, refining
from jaxdec.diffusion.resample import Proposals, Resample, energy
from jaxdec.diffusion.state import DenoiseState
from jaxdec.diffusion.stop import Stop, prophet
from jaxdec.model import canvas_model, next_token, shifted

__all__ = [
    "Candidates",
    "Canvas",
    "Denoise",
    "DenoiseState",
    "Fuse",
    "Grow",
    "Joint",
    "Progress",
    "Proposals",
    "Remask",
    "Resample",
    "Revealed",
    "Standing",
    "Stop",
    "Unmask",
    "adjust",
    "backtracking",
    "canvas_model",
    "credit",
    "daedal",
    "denoise",
    "editing",
    "end_of_text",
    "energy",
    "next_token",
    "orthogonal_repulsion",
    "prophet",
    "ranked",
    "refining",
    "refresh",
    "schedules",
    "shifted",
    "top",
    "unmask",
]
