"""Drafting from a table of trigrams that adapts to the text: the tree of the likeliest paths.

Legend: B rows, P prompt width, R buckets, k slots, D depth, N nodes, T = N + 1 scored tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Request, Rows
from jaxdec.model import Model, Output, Params
from jaxdec.speculative.contract import Context, StepResult
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.drafters.scatter import last_of_each
from jaxdec.speculative.tree import DraftTree, check_sizes
from pallas_kernels import top_k


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trigrams:
    """Estimated laws of the token after two others, in hashed buckets; a pair that lands on another's bucket evicts it.

    Attributes:
      pairs: int32 `[B, R, 2]`, whose bucket it is.
      tokens: int32 `[B, R, k]`.
      weights: float32 `[B, R, k]`, probabilities, falling; 0 where a slot is empty.
    """

    pairs: jax.Array
    tokens: jax.Array
    weights: jax.Array

    @classmethod
    def empty(cls, buckets: int, slots: int) -> "Trigrams":
        """The table of one row that knows nothing."""
        return cls(
            jnp.zeros((buckets, 2), jnp.int32),
            jnp.zeros((buckets, slots), jnp.int32),
            jnp.zeros((buckets, slots), jnp.float32),
        )

    def at(self, pairs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Of the table of one row, the bucket `[...]`, tokens and weights `[..., k]` of pairs `[..., 2]`."""
        first, second = pairs[..., 0].astype(jnp.uint32), pairs[..., 1].astype(jnp.uint32)
        mixed = (first * jnp.uint32(0x9E3779B1)) ^ (second * jnp.uint32(0x85EBCA77))
        bucket = ((mixed ^ (mixed >> 15)) % len(self.pairs)).astype(jnp.int32)
        own = (self.pairs[bucket] == pairs).all(-1)
        return bucket, self.tokens[bucket], jnp.where(own[..., None], self.weights[bucket], 0)

    def learn(
        self,
        pairs: jax.Array,
        mask: jax.Array,
        tokens: jax.Array,
        weights: jax.Array,
        memory: float,
    ) -> "Trigrams":
        """Moves the laws of some pairs towards what was seen after them; of one bucket's pairs the last counts.

        Args:
          pairs: int32 `[T, 2]`.
          mask: bool `[T]`, which of them count.
          tokens: int32 `[T, m]`, different tokens.
          weights: float32 `[T, m]`, their probabilities.
          memory: the weight of the old law, for a pair that the table knows.
        """
        bucket, before, old = self.at(pairs)
        known = old[:, :1] > 0
        old, new = memory * old, jnp.where(known, 1 - memory, 1) * weights
        same = tokens[:, :, None] == before[:, None]  # [T, m, k]
        new += jnp.where(same, old[:, None], 0).sum(-1)
        old = jnp.where(same.any(1), 0, old)
        merged, slots = jax.lax.top_k(jnp.concatenate([new, old], axis=1), old.shape[1])
        merged_tokens = jnp.take_along_axis(
            jnp.concatenate([tokens, before], axis=1), slots, axis=1
        )
        at = jnp.where(last_of_each(bucket, mask), bucket, len(self.pairs))  # past the end: dropped
        put = lambda table, values: table.at[at].set(values, mode="drop")
        return Trigrams(
            put(self.pairs, pairs), put(self.tokens, merged_tokens), put(self.weights, merged)
        )

    def grow(
        self, pair: jax.Array, depth: int, nodes: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The N likeliest paths of at most D tokens after a pair, `[N]` each: tokens, parents, and which exist.

        Level by level the N best are expanded; a path is never likelier than a part of it, so none is missed.
        """
        pairs, reached, above = pair[None], jnp.ones(1, jnp.float32), jnp.full(1, -1, jnp.int32)
        levels, size = [], 0
        for _ in range(depth):
            _, tokens, weights = self.at(pairs)
            reached, best = jax.lax.top_k(
                (reached[:, None] * weights).reshape(-1), min(nodes, weights.size)
            )
            parent, token = best // weights.shape[1], tokens.reshape(-1)[best]
            levels.append((reached, token, above[parent]))
            pairs = jnp.stack([pairs[parent, 1], token], axis=1)
            above = size + jnp.arange(len(best))
            size += len(best)
        reached, tokens, parents = (jnp.concatenate(parts) for parts in zip(*levels, strict=True))
        order = jnp.argsort(-reached, stable=True)  # parents first, also among equals
        place = jnp.zeros(size, jnp.int32).at[order].set(jnp.arange(size, dtype=jnp.int32))
        kept = jnp.pad(order, (0, max(nodes - size, 0)))[:nodes]
        exists = (reached[kept] > 0) & (jnp.arange(nodes) < size)
        parents = jnp.where(parents[kept] < 0, -1, place[parents[kept]])
        return tokens[kept], jnp.where(exists, parents, -1), exists


@dataclasses.dataclass(frozen=True)
class TrigramTree(CausalDrafter):
    """Proposes the likeliest paths by a row's own trigrams; see `trigram_tree`."""

    vocab_size: int
    depth: int
    budget: int
    slots: int
    buckets: int
    memory: float

    @property
    def nodes(self) -> int:
        """N."""
        return self.budget

    def init(self, params: Params, request: Request, output: Output) -> Trigrams:
        """The trigrams of the prompts."""

        def read(prompt, length):
            def add(table, place):
                text = jax.lax.dynamic_slice(prompt, (place,), (3,))
                real = (place + 2 < length)[None]
                one = jnp.ones((1, 1), jnp.float32)
                return table.learn(text[None, :2], real, text[None, 2:], one, self.memory), None

            table = Trigrams.empty(self.buckets, self.slots)
            return jax.lax.scan(add, table, jnp.arange(request.prompt.shape[1]))[0]

        prompt = jnp.pad(request.prompt, ((0, 0), (0, 2)))  # a slice from the last token on
        return jax.vmap(read)(prompt, request.lengths)

    def paths(
        self, params: Params, table: Trigrams, pair: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The tree of one row after a pair: tokens, parents, and which exist, `[N]` each."""
        return table.grow(pair, self.depth, self.budget)

    def propose(
        self, params: Params, state: Trigrams, context: Context
    ) -> tuple[DraftTree, tuple[jax.Array, jax.Array]]:
        """Grows the trees; also returns the last two tokens of each scored token's path, and which of these exist."""
        rows = context.rows
        before = rows.window(jnp.maximum(rows.length - 2, 0), 1)
        pair = jnp.concatenate([before, rows.pending[:, None]], axis=1)
        grow = lambda table, pair: self.paths(params, table, pair)
        tokens, parents, mask = jax.vmap(grow)(state, pair)
        tree = DraftTree(tokens, parents, mask, None, depth=self.depth)
        scored = jnp.concatenate([rows.pending[:, None], tree.tokens], axis=1)
        last = jnp.take_along_axis(scored, tree.parents + 1, axis=1)
        pairs = jnp.stack([jnp.concatenate([before, last], axis=1), scored], axis=-1)
        return tree, (pairs, tree.scored)

    def update(self, params: Params, state: Trigrams, rows: Rows, result: StepResult) -> Trigrams:
        """Learns what the target predicts after each scored token."""
        law = jax.nn.softmax(result.output.logits)
        weights, tokens = top_k(law, self.slots)
        pairs, exists = result.proposal
        mask = exists & jnp.isfinite(weights).all(-1)  # a broken law teaches nothing
        learn = lambda table, *seen: table.learn(*seen, self.memory)
        return jax.vmap(learn)(state, pairs, mask, tokens, weights)


@typed
def trigram_tree(
    model: Model,
    *,
    depth: int = 12,
    nodes: int = 64,
    slots: int = 8,
    buckets: int = 4096,
    memory: float = 0.5,
) -> TrigramTree:
    """Drafts the likeliest paths by trigrams that adapt to the text and to the target's own predictions.

        q(c | a b) <- memory q(c | a b) + (1 - memory) p(c),   p the target's law after ... a b, wherever it was scored

    The table is a row's own and starts with the prompt. The tree holds the N paths of the largest products of q.

    Args:
      model: the target, for its vocabulary.
      depth: D, the longest path, at least 1.
      nodes: N, at least 1.
      slots: k, tokens that are kept after a pair, at most V.
      buckets: R, of the hashed table; of two pairs in one bucket the later is kept.
      memory: the weight in [0, 1) of what was known of a pair before.

    Raises:
      ValueError: for sizes below 1, more slots than tokens, or another memory.

    Exactness: that of the verifier.
    Source: ADED, 2407.12021, whose table this is. Its search over trees by simulations, its corpus and its back-off are
    those of `searched_trigrams`; here are the paths of the highest probability, which simulations look for, found
    exactly and at once. Memory: `2 R (k + 1)` numbers a row.
    """
    check_sizes(depth=depth, nodes=nodes, slots=slots, buckets=buckets)
    if slots > model.vocab_size:
        raise ValueError(f"{slots} slots for a vocabulary of {model.vocab_size}")
    if not 0 <= memory < 1:
        raise ValueError(f"memory must lie in [0, 1), got {memory}")
    return TrigramTree(model.vocab_size, depth, nodes, slots, buckets, float(memory))
