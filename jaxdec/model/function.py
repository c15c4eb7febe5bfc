"""Any function from tokens to logits as a model: the first step with a network of one's own, without a cache.

Legend: B rows, T new tokens, L positions, V vocabulary.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdec.cache import Cache
from jaxdec.model.contract import Inputs, Model, Output, Params
from jaxdec.model.masked_rows import TokenCache, rows_seen, token_entries


@dataclasses.dataclass(frozen=True)
class _OfTokens:
    """Scores each new token as the last one of a row of its own: the tokens that it sees, from the first on."""

    function: Callable[[Params, jax.Array], jax.Array]
    max_length: int | None

    def __call__(self, params: Params, inputs: Inputs, cache: Cache | None = None) -> Output:
        batch, width = inputs.tokens.shape
        length = width if cache is None else cache.capacity + width
        if self.max_length is not None:
            length = min(length, self.max_length)
        rows = rows_seen(inputs, cache, inputs.query_spans, length, 0)
        logits = self.function(params, rows)
        at = jnp.clip(inputs.positions, 0, length - 1).reshape(-1, 1, 1)
        logits = jnp.take_along_axis(logits, at, axis=1).reshape(batch, width, -1)
        logits = logits.astype(jnp.float32)
        return Output(logits, logits, (), token_entries(inputs))


def from_function(
    function: Callable[[Params, jax.Array], jax.Array],
    *,
    vocab_size: int,
    max_length: int | None = None,
    eos: int | Sequence[int] = (),
) -> Model:
    """A causal model from any function of tokens, such as a call of a Flax module of one's own.

        logits_t = function(params, x_{<= t})_t

    Every decoder takes it, speculation with trees included, and it costs what it costs to have no cache: each new token
    is the forward of a whole row of L tokens. It is for a first try, and for tests of a faster model against it.

        graphdef, state = nnx.split(module)
        model = from_function(lambda params, tokens: nnx.merge(graphdef, params)(tokens), vocab_size=V)
        jaxdec.generate(jaxdec.autoregressive(model), {"target": state}, ...)

    Args:
      function: `(params, tokens int32 [B, L]) -> logits [B, L, V]`, the logits at t those of the token after it. Tokens
        after t must not matter to them: rows are padded with zeros. Models compare by it, so make it once.
      vocab_size: V.
      max_length: the longest row that it takes; None for no limit.
      eos: tokens that end a sequence.

    Raises:
      ValueError: for sizes that are no positive integers, or an `eos` outside the vocabulary.

    Exactness: that of the function.
    """
    return Model(
        forward=_OfTokens(function, max_length),
        init_cache=TokenCache(),
        vocab_size=vocab_size,
        max_length=max_length,
        eos=eos,  # type: ignore[arg-type]
    )
