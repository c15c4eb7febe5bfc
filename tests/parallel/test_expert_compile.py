"""The loop of a mixture over rows and experts, compiled for a TPU: what it communicates is what it must."""

import pytest

from tests.parallel.processes import needs_tpu_compiler, report_of

pytestmark = [pytest.mark.slow, needs_tpu_compiler]
RESIDUAL = 8 * 16 * 512
"""Numbers: rows of a device, nodes and the pending token, width."""
LAYERS, CAPACITY = 2, 8
SENT = 4 * CAPACITY * 512
EXPECTED = {
    # The embedding, and of each layer attention and mixture, its shared expert with the others.
    "replicated": [["all-reduce", RESIDUAL, "bf16"]] * (1 + 2 * LAYERS),
    "dispatch": [
        *[["all-gather", RESIDUAL, "bf16"]] * LAYERS,
        *[["all-reduce", RESIDUAL, "bf16"]] * (1 + LAYERS),
        # The rounds of the prefill are a loop too; of its last layer the cache alone is kept.
        *[["all-to-all", SENT, "bf16"]] * 2 * (LAYERS + LAYERS - 1),
        *[["reduce-scatter", RESIDUAL // 4, "bf16"]] * LAYERS,
    ],
    # The sums of attention go to where experts are guessed: two all-reduces of a layer are one.
    "speculative": [
        *[["all-gather", RESIDUAL, "bf16"]] * LAYERS,
        *[["all-reduce", RESIDUAL, "bf16"]],
        *[["all-to-all", SENT, "bf16"]] * 2 * (LAYERS + LAYERS - 1),
        *[["reduce-scatter", RESIDUAL // 4, "bf16"]] * LAYERS,
    ],
}


@pytest.mark.parametrize("form", EXPECTED)
def test_what_loops_of_mixtures_communicate(form):
    found = report_of("expert_compile", form)
    # All else is of numbers a row: no weight of an expert is moved.
    assert [each for each in found if each[1] >= 4096] == sorted(EXPECTED[form])
