"""The cases of the benchmark are run, if small, for the tests of their results: too long for the default run."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name == "test_benchmarks.py" and "results" in item.fixturenames:
            item.add_marker(pytest.mark.slow)
