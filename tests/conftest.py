"""Tests run on the CPU unless `JAX_PLATFORMS` says otherwise: an installed TPU compiler looks for a TPU else."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
