"""A process that serves requests with a journal, to be killed; it waits for a line before it begins.

python -m tests.requests.killed <folder> <decoder> <requests>
"""

import dataclasses
import sys

import jax
import numpy as np

from jaxdec import catalogue
from jaxdec.generation.requests import Completed, Refused
from jaxdec.testing import battery
from tests.requests.served import engine, mixed


def built(name):
    """A decoder of the catalogue, its parameters, and whether it fills gaps."""
    method, sample = next(
        (method, method.samples[name])
        for method in catalogue.METHODS.values()
        if name in method.samples
    )
    model, params = battery.pair()
    decoder, more = battery.built(sample, model)
    return decoder, {**params, **more}, method.infills


def served(name):
    """An engine that has compiled everything."""
    jax.config.update("jax_disable_most_optimizations", True)
    decoder, params, gaps = built(name)
    found = engine(decoder, params, gaps=gaps)
    found.warm_up()
    return found


def asked(count):
    """Requests of all kinds; some cannot be served, some have samples."""
    calls = mixed(count, seed=7)
    for number in range(0, count, 17):
        calls[number] = dataclasses.replace(calls[number], max_new_tokens=11)
    for number in range(3, count, 11):
        calls[number] = dataclasses.replace(calls[number], samples=3)
    return calls


def row(each: Completed | Refused):
    """What came back, but for when: the same in any process."""
    if isinstance(each, Refused):
        return each.call.tag, -1, each.reason
    own = (each.tokens, each.log_probs, each.raw_log_probs, each.drafted, each.steps)
    content = b"".join(np.ascontiguousarray(x).tobytes() for x in own).hex()
    return each.call.tag, each.sample, (each.id, int(each.status), each.stats, content)


if __name__ == "__main__":
    folder, name, count = sys.argv[1:]
    work = served(name), asked(int(count))
    import orbax.checkpoint  # noqa: F401  # now rather than in the little time that is left

    print("ready", flush=True)
    if sys.stdin.readline():
        for _ in work[0].serve(work[1], steps=2, journal=folder, every=10):
            pass
        print("done", flush=True)
