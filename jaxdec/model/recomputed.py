"""An any-subset model without its cache, to test and to measure what the cache is worth."""

import dataclasses

from jaxdec.arguments import typed
from jaxdec.cache import Cache
from jaxdec.model.contract import Inputs, Model, Output, Params
from jaxdec.model.masked_rows import TokenCache, token_entries, with_cached


@dataclasses.dataclass(frozen=True)
class _Recomputed:
    """Scores all committed tokens again in every forward."""

    model: Model

    def __call__(self, params: Params, inputs: Inputs, cache: Cache | None = None) -> Output:
        everything = dataclasses.replace(with_cached(inputs, cache), queries=inputs.queries)
        output = self.model(params, everything, None)
        return dataclasses.replace(output, entries=token_entries(inputs))


@typed
def recomputed(model: Model) -> Model:
    """The same any-subset model without its cache: every forward scores every token again.

    What implementations without a rank-order cache do. For tests, and to measure what the cache is worth.

    Args:
      model: from `two_stream`.
    """
    forward = _Recomputed(model)
    return dataclasses.replace(
        model, forward=forward, init_cache=TokenCache(), picks=False, mixes=False
    )
