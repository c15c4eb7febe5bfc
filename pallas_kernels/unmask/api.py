"""`unmask`: what callers import.

Legend: N rows, V vocabulary, B groups of rows, D width of hidden states.
"""

from typing import Any

import jax
import jax.numpy as jnp

from pallas_kernels import noise
from pallas_kernels.dispatch import Implementation, dispatch
from pallas_kernels.unmask import gpu, online, reference, tpu
from pallas_kernels.unmask.types import Readout, Unmasked

_FORMS = {"reference": reference.unmask, "tpu": tpu.unmask, "gpu": gpu.unmask}


def unmask(
    scores: jax.Array | Readout,
    keys: jax.Array | None,
    temperature: jax.Array | None,
    banned: jax.Array | None = None,
    *,
    implementation: Implementation | None = None,
) -> Unmasked:
    """Draws a token a row and sums up two laws, in one pass over the vocabulary.

        own(v)    = softmax_v(x_v)
        warped(v) = softmax_v(x_v / T) over the tokens that are not banned
        token     = argmax_v (log warped(v) + g_v),   g = jax.random.gumbel(key, (V,), float32, mode="high")

    the lowest token among equals. A temperature of 0, or below the least normal float32, is greedy: all mass of the
    warped law is on the lowest token of the highest logit that is not banned, and noise decides nothing. Neither
    probabilities nor noise are ever written; rows draw what they would draw alone.

    A row whose logits hold NaN or +inf, or have no finite one, has NaN for all statistics; one whose every possible
    token is banned has no draw, and NaN for the warped law and for `own.log_prob`. The token is 0 in both.

    Args:
      scores: the logits x `[N, V]`, float32 or bfloat16, -inf for impossible tokens; or the hidden states and the
        output matrix that they are products of, which are then never written.
      keys: of the noise, one a row: typed keys `[N]` or threefry words uint32 `[N, 2]`. None: all rows are greedy.
      temperature: T, float32 `[N]`, at least 0; None for 1 everywhere.
      banned: bool `[B, V]`, True where a token is not to be drawn; row n has those of group `n // (N / B)`.
      implementation: `"reference"`, `"tpu"` or `"gpu"`; None for the best.

    Returns:
      Tokens `[N]`, and of each law: the log-probabilities of the token drawn and of the two most probable, the
      entropy, and the log-sum-exp of its scores. Scores of the own law are the logits; those of the warped one are
      `(x - max x) / T`, or 0 and -inf where greedy.

    Raises:
      ValueError: for shapes that do not fit together, or what the implementation that was asked for does not have.
    """
    rows, size = _checked_shape(scores)
    if keys is not None:
        typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
        if not typed and keys.dtype != jnp.uint32:
            raise ValueError(f"keys must be typed or uint32 [N, 2], got {keys.dtype}")
        _check("keys", keys.shape, (rows,) if typed else (rows, 2))
        keys = keys if typed else jax.random.wrap_key_data(keys, impl="threefry2x32")
    temperature = jnp.ones((rows,), jnp.float32) if temperature is None else temperature
    _check("temperature", temperature.shape, (rows,))
    if banned is not None:
        if banned.dtype != jnp.bool_:
            raise ValueError(f"banned must be bool, got {banned.dtype}")
        if banned.ndim != 2 or banned.shape[1] != size or rows % max(banned.shape[0], 1):
            raise ValueError(
                f"banned must be [B, {size}], B a divisor of {rows}, got {banned.shape}"
            )

    def unsupported(name: str, *arrays: Any) -> str | None:
        if name == "reference":
            return None
        parts = jax.tree.leaves(scores)
        for part in parts:
            if part.dtype not in (jnp.float32, jnp.bfloat16):
                return f"scores must be float32 or bfloat16, got {part.dtype}"
            if part.size >= 2**31:
                return f"arrays must have fewer than 2^31 numbers, got {part.shape}"
        types = {str(part.dtype) for part in parts}
        if len(types) > 1:
            return f"hidden and matrix must be of one type, got {sorted(types)}"
        if size > online.LIMIT:
            return f"the vocabulary must be at most {online.LIMIT}, got {size}"
        try:
            noise.key_words(jnp.zeros((1, 2), jnp.uint32) if keys is None else keys)
        except ValueError as error:
            return str(error)
        return None

    return dispatch(
        "unmask",
        _FORMS,
        scores,
        keys,
        temperature.astype(jnp.float32),
        banned,
        implementation=implementation,
        unsupported=unsupported,
    )


def _check(name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if shape != wanted:
        raise ValueError(f"{name} must be of shape {wanted}, got {shape}")


def _checked_shape(scores: jax.Array | Readout) -> tuple[int, int]:
    """(N, V)."""
    if isinstance(scores, Readout):
        hidden, matrix, axis = scores.hidden, scores.matrix, scores.vocab_axis
        if axis not in (0, 1):
            raise ValueError(f"vocab_axis must be 0 or 1, got {axis}")
        fits = hidden.ndim == matrix.ndim == 2 and hidden.shape[1] == matrix.shape[1 - axis]
        if not fits:
            raise ValueError(f"hidden {hidden.shape} and matrix {matrix.shape} have no common D")
    elif scores.ndim != 2:
        raise ValueError(f"logits must be [N, V], got {scores.shape}")
    if 0 in scores.shape:
        raise ValueError(f"there must be a row and a token, got {scores.shape}")
    rows, size = scores.shape
    return rows, size
