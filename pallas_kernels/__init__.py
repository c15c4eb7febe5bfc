"""Pallas kernels for decoding; imports nothing from jaxdec."""
