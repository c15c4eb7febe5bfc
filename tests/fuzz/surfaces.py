"""Everything that is fuzzed: a module here for each surface, and its `SURFACE` in this table."""

from tests.fuzz import (
    asking,
    assembling,
    command_line,
    generating,
    infilling,
    own_checkpoints,
    public_folders,
    trees,
)
from tests.fuzz.surface import Surface

SURFACES: dict[str, Surface] = {
    module.SURFACE.name: module.SURFACE
    for module in (
        generating,
        infilling,
        asking,
        trees,
        assembling,
        own_checkpoints,
        public_folders,
        command_line,
    )
}
"""By name, in the order of the benchmark."""
