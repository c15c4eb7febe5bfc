"""The tokens that stand before each law, for stages that read more of them than counts.

Legend: B rows, L buffer width, N nodes of a draft tree, F nodes of a frontier, D tokens of a path at most.
"""

import dataclasses

import jax
import jax.numpy as jnp

NONE = -1
"""Read where there is no token, or where it is not known. Equal to no token."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TextBefore:
    """The text before each law: the tokens of a row, then a path of drafts.

    Attributes:
      tokens: int32 `[B, L]`, prompt and generated tokens.
      length: int32 `[B]`, how many of them there are.
      prompt_length: int32 `[B]`.
      path: int32 `[B, ..., D]`, the tokens after those on the way to each law, the first one first. The middle axes, if
        any, are those of the logits.
      depth: int32 `[B, ...]`, tokens after those; more than D where they are not known.
    """

    tokens: jax.Array
    length: jax.Array
    prompt_length: jax.Array
    path: jax.Array
    depth: jax.Array

    @classmethod
    def of(cls, tokens: jax.Array, length: jax.Array, prompt_length: jax.Array) -> "TextBefore":
        """The text of rows, with no drafts behind it."""
        batch = tokens.shape[0]
        nothing = jnp.zeros((batch, 0), jnp.int32), jnp.zeros((batch,), jnp.int32)
        return cls(tokens, length, prompt_length, *nothing)

    @property
    def generated(self) -> jax.Array:
        """Tokens between the prompt and each law, int32 `[B, ...]`."""
        return self._of_row(self.length - self.prompt_length) + self.depth

    def back(self, distances: jax.Array) -> jax.Array:
        """The tokens some places before the last one of each text, `NONE` where there is none.

        Args:
          distances: int32 `[R]` or `[B, ..., R]`, at least 0; 0 for the last token itself.

        Returns:
          int32 `[B, ..., R]`.
        """
        depth, length = self.depth[..., None], self._of_row(self.length)[..., None]
        at = depth - 1 - distances  # in the path; in the row's own tokens where that is negative
        place = length + at
        written = _at(self.tokens, place.reshape(len(place), -1)).reshape(place.shape)
        return jnp.where(at < 0, written, _at(self.path, at))

    def along(self, tokens: jax.Array, ancestors: jax.Array, depth: int) -> "TextBefore":
        """The text before the law of each node of a draft tree.

        Args:
          tokens: int32 `[B, N]`, the token of each node, parents before children.
          ancestors: bool `[B, N, N]`, true where token m stands on the path to the law of node n.
          depth: tokens of a path at most, D.
        """
        # In the order of their numbers ancestors are in the order of the text: each has a place of its own.
        place = jnp.cumsum(ancestors, axis=-1, dtype=jnp.int32) - 1
        here = ancestors[..., None] & (place[..., None] == jnp.arange(depth))
        path = jnp.sum(here * tokens[:, None, :, None], axis=2, dtype=jnp.int32)
        return dataclasses.replace(self, path=path, depth=ancestors.sum(-1, dtype=jnp.int32))

    def at(self, ranks: jax.Array) -> "TextBefore":
        """The text before the tokens at `ranks [B, ...]`; what stands between it and them is not known."""
        depth = (ranks - self.length.reshape(-1, *(1,) * (ranks.ndim - 1))).astype(jnp.int32)
        return dataclasses.replace(self, path=jnp.zeros((*ranks.shape, 0), jnp.int32), depth=depth)

    def spread(self, width: int, depth: int) -> "TextBefore":
        """The text before F laws a row, with room for paths of `depth` tokens."""
        shape = (self.tokens.shape[0], width)
        path = jnp.full((*shape, depth), NONE, jnp.int32)
        return dataclasses.replace(self, path=path, depth=jnp.zeros(shape, jnp.int32))

    def follow(self, parents: jax.Array, tokens: jax.Array) -> "TextBefore":
        """Each of F laws moves on: `tokens [B, F]` follow the texts in slots `parents [B, F]`."""
        depth = jnp.take_along_axis(self.depth, parents, axis=1)
        path = jnp.take_along_axis(self.path, parents[..., None], axis=1)
        here = jnp.arange(path.shape[-1]) == depth[..., None]
        path = jnp.where(here, tokens[..., None], path).astype(jnp.int32)
        return dataclasses.replace(self, path=path, depth=depth + 1)

    def _of_row(self, values: jax.Array) -> jax.Array:
        """`[B]`, shaped to broadcast against `[B, ...]`."""
        return values.reshape(-1, *(1,) * (self.depth.ndim - 1))


def _at(values: jax.Array, index: jax.Array) -> jax.Array:
    """`values [..., M]` at `index [..., R]`; `NONE` outside."""
    size = values.shape[-1]
    if not size:
        return jnp.full(index.shape, NONE, jnp.int32)
    inside = (index >= 0) & (index < size)
    found = jnp.take_along_axis(values, jnp.clip(index, 0, size - 1), axis=-1)
    return jnp.where(inside, found, NONE)
