"""Attention whose visibility is interval containment: trees, blocks, windows and whole canvases in one operation."""

from pallas_kernels.span_attention.api import span_attention
from pallas_kernels.span_attention.parts import Keys, merge
from pallas_kernels.span_attention.split import (
    Form,
    Split,
    check_form,
    devices_along,
    in_turns,
    own_turns,
    sharing,
    tokens_split,
    whole,
    whole_tokens,
)

__all__ = [
    "Form",
    "Keys",
    "Split",
    "check_form",
    "devices_along",
    "in_turns",
    "merge",
    "own_turns",
    "sharing",
    "span_attention",
    "tokens_split",
    "whole",
    "whole_tokens",
]
