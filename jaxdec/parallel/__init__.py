"""Rows over devices."""

from jaxdec.parallel.rows import (
    AXIS,
    data_mesh,
    generate_sharded,
    infill_sharded,
    init_sharded,
    replicate,
    row_specs,
    run_sharded,
)

__all__ = [
    "AXIS",
    "data_mesh",
    "generate_sharded",
    "infill_sharded",
    "init_sharded",
    "replicate",
    "row_specs",
    "run_sharded",
]
