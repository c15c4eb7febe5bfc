"""Compiles kernels at real sizes for TPUs that are not there; prints a line of JSON for each.

    python tests/kernels/aot.py v5e:2x2 span_attention unmask

A process of its own, since the variables below must be set before the TPU compiler is loaded.
"""

import importlib
import json
import os
import sys
import time

os.environ.update(
    JAX_PLATFORMS="cpu",
    TPU_SKIP_MDS_QUERY="1",
    TPU_ACCELERATOR_TYPE="v5litepod-4",
    TPU_WORKER_HOSTNAMES="localhost",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",  # another test run on this machine must not lock this one out
)

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import pallas_kernels


def main(topology, operations):
    device = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices[0]
    there = SingleDeviceSharding(device)
    for operation in operations:
        cases = importlib.import_module(f"pallas_kernels.{operation}.cases")
        for name, function, arguments in cases.aot_cases():
            place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there)
            began = time.perf_counter()
            with pallas_kernels.use("tpu"):
                traced = jax.jit(function).trace(*jax.tree.map(place, arguments))
            compiled = traced.lower(lowering_platforms=("tpu",)).compile()
            memory = compiled.memory_analysis()
            report = {
                "operation": operation,
                "case": name,
                "kernels": compiled.as_text().count('custom_call_target="tpu_custom_call"'),
                "arguments": memory.argument_size_in_bytes,
                "outputs": memory.output_size_in_bytes,
                "temporaries": memory.temp_size_in_bytes,
                "seconds": round(time.perf_counter() - began, 2),
            }
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
