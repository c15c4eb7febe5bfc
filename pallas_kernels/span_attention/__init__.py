"""Attention whose visibility is interval containment: trees, blocks, windows and whole canvases in one operation."""

from pallas_kernels.span_attention.api import span_attention
from pallas_kernels.span_attention.parts import Keys, merge

__all__ = ["Keys", "merge", "span_attention"]
