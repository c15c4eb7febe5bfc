"""Token Recycling: drafting from what the target itself predicted after each token, last time it saw it.

Legend: B rows, P prompt width, V vocabulary, k candidates a token, N nodes, T = N + 1 scored tokens.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.arguments import typed
from jaxdec.decoding import Request, Rows
from jaxdec.model import Model, Output, Params
from jaxdec.speculative.contract import Context, StepResult
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.drafters.scatter import last_of_each
from jaxdec.speculative.tree import DraftTree, RankTree, check_sizes
from pallas_kernels import top_k

RATES = (0.52, 0.08, 0.045, 0.04, 0.022, 0.018, 0.016, 0.015)
"""How often the r-th candidate after a byte turns out to follow it, about, on held-out Python."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Successors:
    """Candidates to follow each token.

    Attributes:
      tokens: int32 `[B, V, k]`, the best first.
      count: int32 `[B, V]`, how many of them are known; the rest are arbitrary.
    """

    tokens: jax.Array
    count: jax.Array


def seed_bigrams(
    tokens: jax.Array, count: jax.Array, prompt: jax.Array, length: jax.Array
) -> Successors:
    """Puts the bigrams of a prompt into the table of one row, each to the front of its list: the latest leads.

    Args:
      tokens: int32 `[V, k]`.
      count: int32 `[V]`.
      prompt: int32 `[P]`.
      length: int32 scalar.
    """
    places = jnp.arange(tokens.shape[1])

    def add(table, pair):
        tokens, count = table
        before, after, real = pair
        row, known = tokens[before], places < count[before]
        same = known & (row == after)
        new = jnp.where(places == 0, after, jnp.roll(row, 1))
        # Candidates up to the old place of this one move back by one; the last falls off if it is new.
        last = jnp.where(same.any(), jnp.argmax(same), tokens.shape[1])
        row = jnp.where(real & (places <= last), new, row)
        grown = jnp.minimum(count[before] + (real & ~same.any()), tokens.shape[1])
        return (tokens.at[before].set(row), count.at[before].set(grown)), None

    real = jnp.arange(1, len(prompt)) < length
    pairs = (prompt[:-1], prompt[1:], real)
    return Successors(*jax.lax.scan(add, (tokens, count), pairs)[0])


def recycle(
    tokens: jax.Array, count: jax.Array, keys: jax.Array, mask: jax.Array, logits: jax.Array
) -> Successors:
    """Replaces the candidates after each scored token of one row by the target's best; of equal tokens the last counts.

    Args:
      tokens: int32 `[V, k]`.
      count: int32 `[V]`.
      keys: int32 `[T]`, the scored tokens.
      mask: bool `[T]`, which of them exist.
      logits: `[T, V]`.
    """
    size, width = tokens.shape
    _, best = top_k(logits, width)
    at = jnp.where(last_of_each(keys, mask), keys, size)  # past the end: dropped
    return Successors(
        tokens.at[at].set(best.astype(jnp.int32), mode="drop"),
        count.at[at].set(width, mode="drop"),
    )


@dataclasses.dataclass(frozen=True)
class TokenRecycling(CausalDrafter):
    """A tree of a fixed shape, filled from a table of successors; see `token_recycling`."""

    vocab_size: int
    depth: int
    width: int
    shape: RankTree

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.shape.parents)

    def init(self, params: Params, request: Request, output: Output) -> Successors:
        """The bigrams of the prompts."""
        batch = len(request.lengths)
        tokens = jnp.zeros((batch, self.vocab_size, self.width), jnp.int32)
        count = jnp.zeros((batch, self.vocab_size), jnp.int32)
        return jax.vmap(seed_bigrams)(tokens, count, request.prompt, request.lengths)

    def propose(
        self, params: Params, state: Successors, context: Context
    ) -> tuple[DraftTree, tuple[jax.Array, jax.Array]]:
        """Fills the shape level by level: a node of rank r holds the r-th successor of its parent's token.

        Also returns the scored tokens `[B, T]`, and which of them exist.
        """
        pending = context.rows.pending
        batch, row = len(pending), jnp.arange(len(pending))[:, None]
        parents, depths = np.array(self.shape.parents), np.array(self.shape.depths)
        ranks = np.array(self.shape.ranks)
        tokens = jnp.zeros((batch, self.nodes + 1), jnp.int32).at[:, 0].set(pending)
        exists = jnp.zeros(tokens.shape, bool).at[:, 0].set(True)
        for depth in range(1, self.depth + 1):
            level = np.flatnonzero(depths == depth)
            above = parents[level] + 1
            before = tokens[:, above]
            known = exists[:, above] & (ranks[level] < state.count[row, before])
            tokens = tokens.at[:, level + 1].set(state.tokens[row, before, ranks[level]])
            exists = exists.at[:, level + 1].set(known)
        everywhere = jnp.broadcast_to(jnp.asarray(parents), (batch, self.nodes))
        tree = DraftTree(tokens[:, 1:], everywhere, exists[:, 1:], None, depth=self.depth)
        return tree, (tokens, exists)

    def update(
        self, params: Params, state: Successors, rows: Rows, result: StepResult
    ) -> Successors:
        """Learns from every scored token, accepted or not."""
        scored, exists = result.proposal
        logits = result.output.logits
        return jax.vmap(recycle)(state.tokens, state.count, scored, exists, logits)


@typed
def token_recycling(
    model: Model,
    *,
    depth: int = 8,
    nodes: int = 64,
    rates: tuple[float, ...] = RATES,
) -> TokenRecycling:
    """Drafts a tree from a table that holds, for each token, the target's k best tokens after it, where last scored.

        node = successors[parent's token, rank],   successors[t] <- top k of the logits after t, for every scored t

    The table is a row's own, starts with the bigrams of its prompt, and learns from rejected drafts too. A node whose
    entry is empty does not exist.

    Args:
      model: the target, for its vocabulary.
      depth: of the tree at most, at least 1.
      nodes: of the tree, at least `depth`.
      rates: how often the r-th candidate is right, for the shape of the tree (`RankTree.best`); k is their number.

    Raises:
      ValueError: for sizes below 1, rates that are not a falling law, more of them than tokens, or if there is no such
        tree.

    Exactness: that of the verifier.
    Source: 2408.08696. The shape is computed from rates and not the paper's, and the table starts with the prompt.
    Memory: `V k` integers a row.
    """
    check_sizes(depth=depth, nodes=nodes)
    rates = tuple(float(rate) for rate in rates)
    falling = all(a >= b > 0 for a, b in itertools.pairwise((1.0, *rates)))
    if not rates or not falling or sum(rates) > 1 + 1e-6:
        raise ValueError(f"rates must fall, lie in (0, 1] and sum to at most 1, got {rates}")
    if len(rates) > model.vocab_size:
        raise ValueError(f"{len(rates)} rates for a vocabulary of {model.vocab_size}")
    shape = RankTree.best(depth, nodes, rates)
    return TokenRecycling(model.vocab_size, max(shape.depths), len(rates), shape)
