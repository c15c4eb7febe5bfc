"""Which checks a declaration implies."""

from collections.abc import Callable

from jaxdec.decoding import Exactness
from jaxdec.testing.battery.compilation import check_compiled_once
from jaxdec.testing.battery.faults import check_broken_model, check_full_cache
from jaxdec.testing.battery.identity import (
    check_greedy_identity,
    check_python_twin,
    check_token_identity,
)
from jaxdec.testing.battery.law import check_law
from jaxdec.testing.battery.parts import check_declares_exactness, check_different_keys
from jaxdec.testing.battery.requests import Factory, pair
from jaxdec.testing.battery.rows import check_chunked, check_row_alone
from jaxdec.testing.battery.stops import check_stops_inside_chunks

ALWAYS = (
    check_declares_exactness,
    check_row_alone,
    check_chunked,
    check_stops_inside_chunks,
    check_broken_model,
    check_full_cache,
    check_compiled_once,
    check_different_keys,
)


IMPLIED = {
    Exactness.TOKEN_IDENTICAL: (check_token_identity, check_python_twin),
    Exactness.DISTRIBUTION_IDENTICAL: (check_greedy_identity, check_law),
    Exactness.APPROXIMATE: (),
    Exactness.HEURISTIC: (),
}


def checks(make: Factory) -> tuple[Callable[[Factory], None], ...]:
    """The checks that the factory's decoder must pass: those for all, and those that its declaration implies."""
    model, _ = pair()
    decoder = make(model, model)
    exactness = getattr(decoder, "exactness", None)
    always: tuple[Callable[[Factory], None], ...] = ALWAYS
    if getattr(decoder, "fills_canvas", False) and exactness is not Exactness.TOKEN_IDENTICAL:
        # How much of a canvas is masked is part of what such a policy goes by: a smaller one is another request.
        always = tuple(check for check in ALWAYS if check is not check_full_cache)
    return always + (IMPLIED[exactness] if isinstance(exactness, Exactness) else ())
