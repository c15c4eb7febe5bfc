"""Eight CPU devices that are not there: to be imported before JAX, in a process of its own."""

import json
import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Unoptimised code: the cases compile many small programs and run each once.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 "
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)


def report(cases):
    """Runs functions with their arguments and prints what each returns, or raises, by name as JSON."""
    found = {}
    for name, (function, *arguments) in cases.items():
        try:
            found[name] = function(*arguments)
        except Exception as error:
            found[name] = [f"{type(error).__name__}: {error}"]
    print(json.dumps(found))
