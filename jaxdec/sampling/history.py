"""Token counts that penalties read.

Legend: B rows, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class History:
    """Token counts that the penalties read.

    Attributes:
      prompt: int32 `[B, V]`, how often each token stands in the prompt.
      generated: int32 `[B, ..., V]`, how often each token was generated; the middle axes, if any,
        are those of the logits.
    """

    prompt: jax.Array
    generated: jax.Array

    @classmethod
    def start(cls, tokens: jax.Array, lengths: jax.Array, vocab_size: int) -> "History":
        """Counts the tokens of the prompts; nothing is generated yet.

          prompt[b, v] = #{ i < lengths[b] : tokens[b, i] = v }

        Args:
          tokens: int32 `[B, P]`, prompts with their padding on the right.
          lengths: int32 `[B]`, tokens of each prompt.
          vocab_size: V.

        Returns:
          Counts with `prompt` and `generated` of shape `[B, V]`.
        """
        zeros = jnp.zeros((tokens.shape[0], vocab_size), jnp.int32)
        valid = jnp.arange(tokens.shape[1]) < lengths[:, None]
        return cls(_count(zeros, tokens, valid), zeros)

    def add(self, tokens: jax.Array, valid: jax.Array) -> "History":
        """Counts newly generated tokens.

          generated'[b, v] = generated[b, v] + #{ t : valid[b, t] and tokens[b, t] = v }

        Args:
          tokens: int32 `[B, T]`; ids outside the vocabulary are ignored.
          valid: bool `[B, T]`, True = count this token.

        Returns:
          A history of the same shapes.

        Raises:
          ValueError: if the generated counts are not `[B, V]`, for example after `along`.
        """
        self._check_flat("add")
        return dataclasses.replace(self, generated=_count(self.generated, tokens, valid))

    def along(self, tokens: jax.Array, ancestors: jax.Array) -> "History":
        """Counts as each node of a draft tree sees them.

          generated'[b, n, v] = generated[b, v] + sum_m ancestors[b, n, m] [tokens[b, m] = v]

        Leave a root that `add` has counted already out of `ancestors`, or it counts twice.

        Args:
          tokens: int32 `[B, N]`, the token of each node; ids outside the vocabulary are ignored.
          ancestors: bool `[B, N, N]`, True where token m counts at node n (ancestor or self).

        Returns:
          A history whose `generated` is `[B, N, V]`, for logits `[B, N, V]`.

        Raises:
          ValueError: if the generated counts are not `[B, V]`.
        """
        self._check_flat("along")
        # Factors of 0 and 1 are exact at any matmul precision; float32 sums of them are too.
        one_hot = jax.nn.one_hot(tokens, self.generated.shape[-1], dtype=jnp.float32)
        path = jnp.einsum("bnm,bmv->bnv", ancestors.astype(jnp.float32), one_hot)
        return dataclasses.replace(
            self, generated=self.generated[:, None, :] + path.astype(jnp.int32)
        )

    def _check_flat(self, method: str) -> None:
        if self.generated.ndim != 2:
            raise ValueError(
                f"History.{method} needs generated counts [B, V], got {self.generated.shape}"
            )


def _count(counts: jax.Array, tokens: jax.Array, valid: jax.Array) -> jax.Array:
    """Counts `[B, V]` plus the valid tokens `[B, T]`."""
    vocab_size = counts.shape[-1]
    # Everything ignored goes to one index past the end, which the scatter drops; a negative id left
    # alone would wrap around.
    tokens = jnp.where(valid & (tokens >= 0), tokens, vocab_size)
    rows = jnp.arange(counts.shape[0])[:, None]
    return counts.at[rows, tokens].add(1, mode="drop")
