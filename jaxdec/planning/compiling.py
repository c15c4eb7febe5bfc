"""Compiles decodes for TPUs that are not there, in a process of its own.

`python -m jaxdec.planning.compiling` reads a list of jobs as JSON and writes one line of facts for each. The variables
that make the TPU compiler work without a TPU must be set before it is loaded: see `compiled`.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import pallas_kernels
from jaxdec import decoding, parallel
from jaxdec.decoding import placed
from jaxdec.planning import fitting, work
from jaxdec.planning.chips import Topology
from jaxdec.planning.hlo import Program
from jaxdec.planning.kernels import at_context
from jaxdec.planning.program import step_counts
from jaxdec.planning.task import Task

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # another process may hold it
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # programs of chips that are not there are not read back
}


@dataclasses.dataclass(frozen=True)
class Job:
    """A program to compile.

    Attributes:
      task: what is planned.
      layers: of the target.
      tokens: None for the task's own decoder; else that which scores as many tokens in each forward.
    """

    task: Task
    layers: int
    tokens: int | None = None

    @property
    def about(self) -> str:
        """What is compiled, in words."""
        what = self.task.method if self.tokens is None else f"{self.tokens} tokens a forward"
        return f"{what}, {self.layers} layers"


def compiled(jobs: list[Job]) -> Iterator[dict[str, Any]]:
    """Facts of each program, as `facts` says, as soon as it is compiled.

    Raises:
      ValueError: if the TPU compiler is missing, or refuses a program.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            "plans need the TPU compiler, which runs without a TPU on x86-64 Linux: pip install 'jaxdec[tpu]'"
        )
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxdec.planning.compiling"],
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps([dataclasses.asdict(job) for job in jobs]))
            process.stdin.close()
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
            if process.wait():
                said.seek(0)
                lines = [line.strip() for line in said if line.strip()]
                raise ValueError(lines[-1] if lines else "the compiler ended without a word")
        finally:
            process.kill()
            process.wait()


def facts(job: Job) -> dict[str, Any]:
    """What a program holds on a chip, and what a step of it does.

    Returns:
      A JSON object: `seconds` to compile by the clock, and `processor_seconds` on all cores; `memory`, bytes a chip;
      `elsewhere`, the same on other slices (`fitting.elsewhere`);
      `weights`, bytes a chip by part (`held`, and `read`: those that a forward needs); `caches`, bytes a chip of each,
      and their `slots` a row; `usual` and `widest` steps, None of a program that was refused as too large; `depth`,
      forwards of a drafter's network in a step.
    """
    task, start, worked = job.task, time.perf_counter(), time.process_time()
    if job.tokens is None:
        decoder, params = task.decoder(job.layers)
    else:
        decoder, params = task.verification(job.tokens, job.layers)
    place = _placement(task)
    request = jax.eval_shape(lambda held: held, task.request(decoder, params))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), task.batch))

    def run(params, state, keys):
        with pallas_kernels.use("tpu"):
            return decoding.run(decoder, params, state, keys, placement=place)

    def begin(params, request):
        with pallas_kernels.use("tpu"):
            return decoding.init(decoder, params, request, placement=place)

    state = jax.eval_shape(begin, params, request)
    program, needed = fitting.compiled(_lowered(run, (params, state, keys), place))
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    caches: list[int] = []
    parallel.over_caches(
        lambda cache: caches.append(work.share(cache, place.cache_specs(cache), place)),
        lambda leaf: None,
        state,
    )
    shares = {part: work.share(params[part], place.specs(params)[part], place) for part in params}
    drafter = getattr(decoder, "drafter", None)
    usual, widest = (None, None) if program is None else _steps(program, task)
    return {
        "layers": job.layers,
        "tokens": job.tokens or task.scored(decoder),
        "depth": 0 if drafter is None else drafter.depth,
        "seconds": seconds,
        "processor_seconds": worked,
        "memory": fitting.bytes_held(program, needed, sum(shares.values()), sum(caches)),
        "elsewhere": {} if job.tokens else fitting.elsewhere(task, params, state),
        "weights": work.weights(params, place),
        "caches": caches,
        "slots": request.capacity,
        "usual": usual,
        "widest": widest,
    }


def _steps(program: Any, task: Task) -> list[dict[str, Any]]:
    """What a usual and a wide step of a compiled loop do."""
    held, kernel = Program.read(program.as_text()), at_context(task.context)
    return [work.told(step_counts(held, kernel, widest=widest)) for widest in (False, True)]


def _placement(task: Task) -> parallel.Placement:
    """The task's mesh, over chips of the topology."""
    topology = Topology.parse(task.topology)
    held = topologies.get_topology_desc(platform="tpu", topology_name=topology.compiled)
    return parallel.placement(
        data=task.data,
        sequence=task.sequence,
        model=task.model_axis,
        devices=held.devices[: topology.chips],
    )


def _lowered(run: Any, arguments: tuple[Any, Any, Any], place: parallel.Placement) -> Any:
    """A run, to be compiled for parameters, a state that it takes over, and keys."""
    params, state, _ = arguments
    specs = place.specs(params), placed.specs(place, state), P(parallel.DATA)
    shardings = jax.tree.map(
        lambda spec: NamedSharding(place.mesh, spec), specs, is_leaf=lambda x: isinstance(x, P)
    )
    jitted = jax.jit(run, in_shardings=shardings, donate_argnums=1)
    return jitted.trace(*arguments).lower(lowering_platforms=("tpu",))


if __name__ == "__main__":
    for given in json.load(sys.stdin):
        given["task"] = Task(**given["task"])
        try:
            found = facts(Job(**given))
        except Exception as error:  # said in one line, whatever the compiler says
            sys.exit(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
        print(json.dumps(found), flush=True)
