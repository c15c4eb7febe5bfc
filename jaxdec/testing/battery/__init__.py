"""The conformance battery: what a decoder declares is what it is tested for.

A *factory* builds the decoder under test from two models that the battery supplies, a target and a drafter that
resembles it: `make(target, draft) -> Decoder`. Decoders that need no drafter ignore the second.

    for check in checks(make):
        check(make)

Each check raises `AssertionError`. The models are oracles (`jaxdec.testing.oracles`), for which results are equal bit
for bit in any batch, so every comparison is an equality; the one statistical check states its false-positive rate.
"""

from jaxdec.testing.battery.check import ALWAYS, IMPLIED, checks
from jaxdec.testing.battery.compilation import Counted, check_compiled_once
from jaxdec.testing.battery.faults import check_broken_model, check_full_cache
from jaxdec.testing.battery.identity import (
    check_greedy_identity,
    check_python_twin,
    check_token_identity,
)
from jaxdec.testing.battery.law import FALSE_POSITIVE_RATE, check_law
from jaxdec.testing.battery.parts import check_declares_exactness, check_different_keys
from jaxdec.testing.battery.requests import (
    BUDGET,
    EVERYTHING,
    KNOBS,
    LENGTHS,
    NEVER,
    PROMPTS,
    VOCAB,
    Factory,
    assert_same,
    generate,
    ordered,
    pair,
    plain_decoder,
    prepare,
    texts,
)
from jaxdec.testing.battery.rows import check_chunked, check_row_alone
from jaxdec.testing.battery.stops import check_stops_inside_chunks

__all__ = [
    "ALWAYS",
    "BUDGET",
    "EVERYTHING",
    "FALSE_POSITIVE_RATE",
    "IMPLIED",
    "KNOBS",
    "LENGTHS",
    "NEVER",
    "PROMPTS",
    "VOCAB",
    "Counted",
    "Factory",
    "assert_same",
    "check_broken_model",
    "check_chunked",
    "check_compiled_once",
    "check_declares_exactness",
    "check_different_keys",
    "check_full_cache",
    "check_greedy_identity",
    "check_law",
    "check_python_twin",
    "check_row_alone",
    "check_stops_inside_chunks",
    "check_token_identity",
    "checks",
    "generate",
    "ordered",
    "pair",
    "plain_decoder",
    "prepare",
    "texts",
]
