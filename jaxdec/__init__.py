"""Decoding algorithms for JAX and TPU."""
