"""Methods that decode a canvas with a second model beside."""

from jaxdec.catalogue.canvas import denoising, of_blocks
from jaxdec.catalogue.method import Parts
from jaxdec.diffusion import Resample, Unmask, energy, schedules
from jaxdec.diffusion import unmask as policies
from jaxdec.model import Model


def _second(parts: Parts, method: str) -> Model:
    """The second model; raises `ValueError` if there is none."""
    if not isinstance(parts.draft, Model):
        raise ValueError(f"method {method!r} needs a causal model beside the canvas model")
    return parts.draft


def _by_energy(parts: Parts) -> Resample:
    """The energy of the second model."""
    return energy(_second(parts, "edlm"), name="draft")


def _guided(parts: Parts, policy: Unmask) -> tuple[schedules.Schedule, Unmask]:
    """Blocks, and the second model's word in place of the policy."""
    return of_blocks(parts, policies.guider(_second(parts, "guided-diffusion"), name="draft"))


ROWS = [
    denoising(
        "edlm",
        "ancestral canvas decoding, each step one of two fills drawn by a causal model's importance weights (a step "
        "over the whole canvas, table of 27: total variation 0.41 from the joint, 0.59 without)",
        "2410.21357",
        policies.ancestral,
        benchmark="canvas_laws",
        resample=_by_energy,
        draft="code-target",
    ),
    denoising(
        "guided-diffusion",
        "canvas decoding, drafts for all masks, from the left as many as a causal model agrees with (one of its 5 "
        "likeliest tokens each)",
        "2505.21467",
        policies.left_to_right,
        layout=_guided,
        benchmark="canvas_laws",
        draft="code-target",
    ),
]
