"""What the logits pipeline reads of the past: token counts, for penalties, and the text itself, for bans.

Legend: B rows, N nodes of a draft tree, F nodes of a frontier, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.sampling.text_before import TextBefore


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class History:
    """What stages of the pipeline read of the past; a part that no stage reads may be None.

    Attributes:
      prompt: int32 `[B, V]`, how often each token stands in the prompt.
      generated: int32 `[B, ..., V]`, how often each token was generated; the middle axes, if any,
        are those of the logits.
      text: the tokens before each law.
      state: int32 `[B]`, of the automaton of a constraint, after the tokens of each row.
    """

    prompt: jax.Array | None = None
    generated: jax.Array | None = None
    text: TextBefore | None = None
    state: jax.Array | None = None

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
        """Counts newly generated tokens, if tokens are counted; the text stays.

          generated'[b, v] = generated[b, v] + #{ t : valid[b, t] and tokens[b, t] = v }

        Args:
          tokens: int32 `[B, T]`; ids outside the vocabulary are ignored.
          valid: bool `[B, T]`, True = count this token.

        Returns:
          A history of the same shapes.

        Raises:
          ValueError: if the generated counts are not `[B, V]`, for example after `along`.
        """
        if self.generated is None:
            return self
        self._check_flat("add")
        return dataclasses.replace(self, generated=_count(self.generated, tokens, valid))

    def along(self, tokens: jax.Array, ancestors: jax.Array, depth: int | None = None) -> "History":
        """The past as each node of a draft tree sees it: the text is longer by its path, whose tokens count.

          generated'[b, n, v] = generated[b, v] + sum_m ancestors[b, n, m] [tokens[b, m] = v]

        Leave a root that `add` has counted already out of `ancestors`, or it counts twice.

        Args:
          tokens: int32 `[B, N]`, the token of each node, parents before children; ids outside the vocabulary are
            ignored.
          ancestors: bool `[B, N, N]`, True where token m counts at node n (ancestor or self).
          depth: tokens of a path at most; N if not given.

        Returns:
          A history for logits `[B, N, V]`.

        Raises:
          ValueError: if the generated counts are not `[B, V]`.
        """
        generated, text = self.generated, self.text
        if generated is not None:
            self._check_flat("along")
            # Factors of 0 and 1 are exact at any matmul precision; float32 sums of them are too.
            one_hot = jax.nn.one_hot(tokens, generated.shape[-1], dtype=jnp.float32)
            path = jnp.einsum("bnm,bmv->bnv", ancestors.astype(jnp.float32), one_hot)
            generated = generated[:, None, :] + path.astype(jnp.int32)
        if text is not None:
            text = text.along(tokens, ancestors, tokens.shape[1] if depth is None else depth)
        return dataclasses.replace(self, generated=generated, text=text)

    def at(self, ranks: jax.Array) -> "History":
        """The past as laws at `ranks [B, ...]` see it that know nothing of what stands before them but the rows."""
        return dataclasses.replace(self, text=self.text and self.text.at(ranks))

    def spread(self, width: int, depth: int) -> "History":
        """The past of F laws a row, which `follow` moves on by up to `depth` tokens."""
        generated, text = self.generated, self.text
        if generated is not None:
            batch, vocab_size = generated.shape
            generated = jnp.broadcast_to(generated[:, None], (batch, width, vocab_size))
        return dataclasses.replace(
            self, generated=generated, text=text and text.spread(width, depth)
        )

    def follow(self, parents: jax.Array, tokens: jax.Array) -> "History":
        """Each of F laws moves on: `tokens [B, F]` come after what the laws in slots `parents [B, F]` saw."""
        generated, text = self.generated, self.text
        if generated is not None:
            generated = jnp.take_along_axis(generated, parents[..., None], axis=1)
            generated += jax.nn.one_hot(tokens, generated.shape[-1], dtype=generated.dtype)
        return dataclasses.replace(
            self, generated=generated, text=text and text.follow(parents, tokens)
        )

    def _check_flat(self, method: str) -> None:
        if self.generated is not None and self.generated.ndim != 2:
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
