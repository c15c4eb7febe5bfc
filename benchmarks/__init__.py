"""Benchmarks: cases, the timing that they share, and the report that is generated from their results."""
