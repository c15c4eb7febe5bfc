"""Methods that decode a canvas with a second model beside."""

from jaxdec.catalogue.canvas import denoising, of_blocks
from jaxdec.catalogue.method import Parts
from jaxdec.decoding import Decoder
from jaxdec.diffusion import Joint, Resample, Unmask, adjust, denoise, energy, schedules
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


def _jointly(parts: Parts) -> Joint:
    """The network of the second checkpoint."""
    mask = parts.target.mask_token
    if mask is None:
        raise ValueError(f"method 'adjust' feeds masks, and the model {parts.target.purpose}")
    if not isinstance(parts.draft, Model):
        raise ValueError("method 'adjust' needs a network over the canvas model's states beside it")
    return adjust(parts.draft, mask_token=mask, tokens=parts.length or 4, name="draft")


def _on_masks(target: Model, draft: Model) -> Decoder:
    """What the battery tests of a network over states: an oracle that is fed masks, and another one."""
    from jaxdec.testing.oracles import canvas

    mask = target.vocab_size - 1
    rule = adjust(canvas(draft, mask_token=mask), mask_token=mask, tokens=3, name="draft")
    return denoise(canvas(target, mask_token=mask), unmask=policies.quota("entropy"), joint=rule)


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
        "guided diffusion: canvas decoding, drafts for all masks, from the left as many as a causal model agrees "
        "with (one of its 5 likeliest tokens each)",
        "2505.21467",
        policies.left_to_right,
        layout=_guided,
        benchmark="canvas_laws",
        draft="code-target",
    ),
    denoising(
        "adjust",
        "ADJUST: canvas decoding, 4 tokens a forward by least entropy, the laws of all but the first by a small "
        "network that sees the tokens before (none that was trained helped, so none is shipped)",
        "2509.22738",
        lambda: policies.quota("entropy"),
        joint=_jointly,
        benchmark="canvas_laws",
        heads="adjust",
        sample=_on_masks,
    ),
]
