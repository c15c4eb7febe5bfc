"""Mutants: seeded faults, each a snippet of the source and what stands in its place, which the public kit has to catch.

    python -m tests.mutants [--family F] [--only NAME] [--every N] [--jobs J]

runs the checks of `jaxdec.testing` on the decoders and parts of a family, once without a fault (the control) and once
with each of its mutants, in a process of its own, and says which check killed which mutant.
"""
