"""What the TPU compiler says of the kernels, for TPUs that are not there: `python -m benchmarks.kernel_compilation`.

Prints rows as JSON. A process of its own, since the variables below must be set before the TPU compiler is loaded.
"""

import json
import os
import re
import sys
import time
from typing import Any

os.environ.update(
    JAX_PLATFORMS="cpu",
    TPU_SKIP_MDS_QUERY="1",
    TPU_ACCELERATOR_TYPE="v5litepod-4",
    TPU_WORKER_HOSTNAMES="localhost",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",
)

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import pallas_kernels
from benchmarks.kernel_entries import OPERATIONS, Entry
from pallas_kernels.traffic import moved_bytes

TOPOLOGIES = {"v5e": "v5e:2x2", "v6e": "v6e:2x4"}


def compiled(entry: Entry, device: Any) -> dict[str, Any]:
    """Facts of the compiled program of one entry."""
    sharding = SingleDeviceSharding(device)
    start = time.perf_counter()
    try:
        with pallas_kernels.use("tpu"):
            program = (
                jax.jit(
                    entry.function,
                    in_shardings=sharding,
                    out_shardings=sharding,
                    donate_argnums=(0,) if entry.in_place else (),
                )
                .trace(*entry.shapes)
                .lower(lowering_platforms=("tpu",))
                .compile()
            )
    except Exception as error:  # whatever the compiler refuses belongs in the results
        return {"compiles": False, "note": str(error).splitlines()[0][:200]}
    memory = program.memory_analysis()
    kernels = [line for line in program.as_text().splitlines() if "tpu_custom_call" in line]
    used = re.compile(r'"used_scoped_memory_configs":\[\{"memory_space":"1",[^}]*"size":"(\d+)"')
    vmem = [int(match[1]) for line in kernels if (match := used.search(line))]
    return {
        "compiles": True,
        "compile_seconds": time.perf_counter() - start,
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "aliased_bytes": memory.alias_size_in_bytes,
        "kernels": len(kernels),
        "vmem_bytes": max(vmem, default=None),
    }


def traffic(entry: Entry) -> dict[str, Any]:
    """Bytes that the kernels of one entry move, by their own index maps.

    Where a kernel copies by hand, its cost estimate is taken.
    """
    calls: list[tuple[int, bool]] = []

    def record(kernel, out_shape, *, cost_estimate, grid_spec=None, **options):
        def call(*operands):
            prefetched = 0 if grid_spec is None else grid_spec.num_scalar_prefetch
            held = options if grid_spec is None else vars(grid_spec)
            outputs = jax.tree.leaves(out_shape)
            specs = [*held["in_specs"], *jax.tree.leaves(held["out_specs"])]
            arrays = [*operands[prefetched:], *outputs]
            if all(spec.block_shape is not None for spec in specs):
                moved = moved_bytes(held["grid"], specs, arrays, operands[:prefetched])
                calls.append((sum(moved), True))
            else:
                calls.append((cost_estimate.bytes_accessed, False))
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), out_shape)

        return call

    given = entry.indices()
    fill = lambda x: (
        jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else jnp.asarray(x)
    )
    arguments = jax.tree.map(fill, given)
    original, pl.pallas_call = pl.pallas_call, record
    try:
        with pallas_kernels.use("tpu"):
            entry.function(*arguments)
    finally:
        pl.pallas_call = original
    moved, least = sum(bytes_ for bytes_, _ in calls), entry.least_bytes(arguments)
    counted = all(counted for _, counted in calls)
    return {
        "moved_bytes": moved,
        "least_bytes": least,
        # An estimate over an estimate would say nothing.
        "traffic_ratio": moved / least if counted else None,
        "counted_by": "index maps" if counted else "cost estimate",
    }


def rows(quick: bool) -> list[dict[str, Any]]:
    """One row an entry and kind of TPU; the first entry of each operation if `quick`."""
    found = []
    for operation, entries in OPERATIONS.items():
        for entry in entries(quick)[: 1 if quick else None]:
            print(f"{operation}: {entry.name}", file=sys.stderr, flush=True)
            moved = traffic(entry)
            for kind, name in TOPOLOGIES.items():
                devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
                found.append(
                    {
                        "operation": operation,
                        "shape": entry.name,
                        "device": f"{kind}, compiled ahead of time",
                        "method": "tpu",
                        **moved,
                        **compiled(entry, devices[0]),
                    }
                )
    return found


if __name__ == "__main__":
    print(json.dumps(rows("--quick" in sys.argv[1:])))
