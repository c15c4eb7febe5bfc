"""What users call: from prompts to text, from gaps to fillings, and the fastest settings for either."""

from jaxdec.generation.gap_length import choose_length
from jaxdec.generation.generate import generate
from jaxdec.generation.infill import Infilled, infill, infilled, prepare_infill
from jaxdec.generation.particle_gibbs import particle_gibbs
from jaxdec.generation.prepare import bucket, prepare
from jaxdec.generation.result import Result, acceptance_by_depth, result
from jaxdec.generation.texts import generated_texts, stream_text
from jaxdec.generation.tuning import ChosenDecoder, auto_draft_length, auto_infill, fastest

__all__ = [
    "ChosenDecoder",
    "Infilled",
    "Result",
    "acceptance_by_depth",
    "auto_draft_length",
    "auto_infill",
    "bucket",
    "choose_length",
    "fastest",
    "generate",
    "generated_texts",
    "infill",
    "infilled",
    "particle_gibbs",
    "prepare",
    "prepare_infill",
    "result",
    "stream_text",
]
