"""What `unmask` takes and returns.

Legend: N rows, V vocabulary, D width of hidden states.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Readout:
    """Logits that are not computed yet: `hidden @ matrix.T`, in float32.

    Attributes:
      hidden: `[N, D]`, float32 or bfloat16.
      matrix: `[V, D]`, as an embedding lies, or `[D, V]`, as the kernel of a linear layer does.
      vocab_axis: which axis of the matrix is V: 0 or 1; static.
    """

    hidden: jax.Array
    matrix: jax.Array
    vocab_axis: int = dataclasses.field(default=0, metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int]:
        """That of the logits, (N, V)."""
        return self.hidden.shape[0], self.matrix.shape[self.vocab_axis]

    @property
    def precision(self) -> jax.lax.Precision:
        """Products of bfloat16 are exact in float32; those of float32 need all passes of the matrix unit."""
        exact = self.hidden.dtype == self.matrix.dtype == jnp.bfloat16
        return jax.lax.Precision.DEFAULT if exact else jax.lax.Precision.HIGHEST

    def logits(self) -> jax.Array:
        """float32 `[N, V]`."""
        contract = (((1,), (1 - self.vocab_axis,)), ((), ()))
        return jax.lax.dot_general(
            self.hidden,
            self.matrix,
            contract,
            precision=self.precision,
            preferred_element_type=jnp.float32,
        )


class Statistics(NamedTuple):
    """How sure a law is, float32 `[...]` each; NaN where the law is.

    Attributes:
      log_prob: log-probability of the token that was drawn.
      top: that of the most probable token.
      second: that of the next one, equal to `top` if two tie; -inf if there is none.
      entropy: in nats.
      logsumexp: of the scores whose softmax the law is.
    """

    log_prob: jax.Array
    top: jax.Array
    second: jax.Array
    entropy: jax.Array
    logsumexp: jax.Array

    @property
    def max_prob(self) -> jax.Array:
        """The probability of the most probable token."""
        return jnp.exp(self.top)

    @property
    def margin(self) -> jax.Array:
        """The probability of the most probable token minus that of the next one."""
        return jnp.exp(self.top) - jnp.exp(self.second)


class Unmasked(NamedTuple):
    """A draw for every row.

    Attributes:
      tokens: int32 `[N]`.
      own: of the model's own law, softmax(logits).
      warped: of the law that the tokens are drawn from.
    """

    tokens: jax.Array
    own: Statistics
    warped: Statistics
