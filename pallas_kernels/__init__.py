"""Pallas kernels for decoding; imports nothing from jaxdec.

Each operation is a folder: `reference.py` is its specification in plain jnp and runs anywhere, `tpu.py` and `gpu.py`
are kernels, and `api.py` is the function that users call:

    from pallas_kernels.span_attention import span_attention
"""

from pallas_kernels.dispatch import Implementation, heads_over, split_over, use
from pallas_kernels.top import top_k

__all__ = ["Implementation", "heads_over", "split_over", "top_k", "use"]
