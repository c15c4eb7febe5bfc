"""Lookahead decoding: n-grams are collected from Jacobi iterations beside the decoding, and guessed where they fit.

Legend: B rows, P prompt width, V vocabulary, N tokens of an n-gram, W columns of the grid, G guesses.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.arguments import typed
from jaxdec.decoding import Request, Rows
from jaxdec.model import Model, Output, Params
from jaxdec.speculative.contract import Context, StepResult
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.tree import DraftTree, check_sizes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pool:
    """The n-grams that were met, by their first token; of each, the G met last.

    Attributes:
      tokens: int32 `[B, V, G, N - 1]`, what follows the first token.
      stamps: int32 `[B, V, G]`, when each was met last; 0 for an empty place.
      clock: int32 `[B]`, n-grams met so far.
    """

    tokens: jax.Array
    stamps: jax.Array
    clock: jax.Array

    def add(self, gram: jax.Array, real: jax.Array) -> "Pool":
        """Of the pool of one row: takes in an n-gram `[N]` if it is `real`, in the place of the one met longest ago."""
        first, rest = gram[0], gram[1:]
        stamps = self.stamps[first]
        same = (self.tokens[first] == rest).all(-1) & (stamps > 0)
        place = jnp.where(same.any(), jnp.argmax(same), jnp.argmin(stamps))
        clock = self.clock + real
        return Pool(
            self.tokens.at[first, place].set(jnp.where(real, rest, self.tokens[first, place])),
            self.stamps.at[first, place].set(jnp.where(real, clock, stamps[place])),
            clock,
        )

    def add_all(self, grams: jax.Array, real: jax.Array) -> "Pool":
        """Takes in n-grams `[n, N]` one after another, those that are `real [n]`."""
        return jax.lax.scan(lambda pool, given: (pool.add(*given), None), self, (grams, real))[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Grid:
    """What is iterated, and what came of it.

    Attributes:
      tokens: int32 `[B, N - 1, W]`; level l of column j is a guess at position `length - 1 + l + j`, and place (0, 0)
        stands for the pending token.
      pool: the n-grams.
    """

    tokens: jax.Array
    pool: Pool


@dataclasses.dataclass(frozen=True)
class Lookahead(CausalDrafter):
    """A tree of a grid and guesses; see `lookahead`."""

    vocab_size: int
    depth: int
    ngram: int
    columns: int
    guesses: int

    @property
    def nodes(self) -> int:
        """The grid but for the pending token, and the guesses."""
        return (self.ngram - 1) * (self.columns + self.guesses) - 1

    @property
    def places(self) -> np.ndarray:
        """The scored token that each place `[N - 1, W]` of the grid is: level by level, the pending token first."""
        return np.arange((self.ngram - 1) * self.columns).reshape(self.ngram - 1, self.columns)

    @property
    def parents(self) -> np.ndarray:
        """Of the nodes: level 0 is a chain, the others hang down the columns, and each guess is a chain."""
        places = self.places
        above = np.concatenate([places[:1] - 1, places[:-1]])  # as scored tokens
        first = places.size
        guess = first + np.arange(self.guesses * (self.ngram - 1)).reshape(self.guesses, -1)
        chains = np.concatenate([np.zeros((self.guesses, 1), int), guess[:, :-1]], axis=1)
        return np.concatenate([above.reshape(-1)[1:], chains.reshape(-1)]) - 1

    @property
    def routes(self) -> np.ndarray:
        """The nodes int `[nodes, depth]` along the way to each, by depth; -1 past it."""
        routes = np.full((self.nodes, self.depth), -1)
        for node, parent in enumerate(self.parents):
            above = routes[parent] if parent >= 0 else np.full(self.depth, -1)
            routes[node] = np.where(above >= 0, above, -1)
            routes[node, (above >= 0).sum()] = node
        return routes

    def merged(self, tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Which guesses of a row say what no node before them says, and the parents of all nodes then.

        Two nodes are one continuation if the same tokens lead to them. What follows any of them hangs off the first,
        and the others are left out; those of the grid stay as leaves, since the target's answers to them are wanted.

        Args:
          tokens: int32 `[nodes]`.
          mask: bool `[nodes]`.

        Returns:
          `(parents, mask)`, int32 and bool `[nodes]`.
        """
        routes = self.routes
        along = jnp.where(routes >= 0, tokens[routes], -1)
        same = (along[:, None] == along).all(-1) & mask
        first = jnp.argmax(same, axis=1).astype(jnp.int32)
        parents = jnp.where(self.parents < 0, -1, first[self.parents])
        nodes = np.arange(self.nodes)
        return parents, mask & ((first == nodes) | (nodes < self.places.size - 1))

    def init(self, params: Params, request: Request, output: Output) -> Grid:
        """A grid filled with the ends of the prompts, and a pool of their n-grams."""
        levels, columns = self.ngram - 1, self.columns

        def read(prompt, length):
            ahead = np.arange(levels)[:, None] + np.arange(columns)
            grid = prompt[(length - 1 - ahead.max() + ahead) % length]
            starts = jnp.arange(max(len(prompt) - levels, 0))
            grams = prompt[starts[:, None] + jnp.arange(self.ngram)]
            pool = Pool(
                jnp.zeros((self.vocab_size, self.guesses, levels), jnp.int32),
                jnp.zeros((self.vocab_size, self.guesses), jnp.int32),
                jnp.int32(0),
            )
            return Grid(grid, pool.add_all(grams, starts + levels < length))

        return jax.vmap(read)(request.prompt, request.lengths)

    def propose(
        self, params: Params, state: Grid, context: Context
    ) -> tuple[DraftTree, tuple[jax.Array, jax.Array]]:
        """The grid, and the n-grams that begin with the pending token; also returns the grid and the rows' lengths."""
        pending = context.rows.pending
        grid = state.tokens.at[:, 0, 0].set(pending)
        row = jnp.arange(len(pending))
        guesses = state.pool.tokens[row, pending].reshape(len(row), -1)
        met = jnp.repeat(state.pool.stamps[row, pending] > 0, self.ngram - 1, axis=1)
        beside = grid.reshape(len(row), -1)[:, 1:]
        tokens = jnp.concatenate([beside, guesses], axis=1)
        mask = jnp.concatenate([jnp.ones(beside.shape, bool), met], axis=1)
        parents, mask = jax.vmap(self.merged)(tokens, mask)
        tree = DraftTree(tokens, parents, mask, q=None, depth=self.depth)
        return tree, (grid, context.rows.length)

    def update(self, params: Params, state: Grid, rows: Rows, result: StepResult) -> Grid:
        """Collects an n-gram from each column, and moves the grid on by what was committed."""
        grid, length = result.proposal
        answers = jnp.argmax(result.output.logits[:, self.places[-1]], axis=-1)
        longer = jnp.concatenate([grid, answers[:, None].astype(jnp.int32)], axis=1)
        real = jnp.ones((len(grid), self.columns), bool)
        pool = jax.vmap(Pool.add_all)(state.pool, longer.swapaxes(1, 2), real)
        # Level l + 1 of a column is level l after one token more; further tokens are columns.
        moved = (rows.length - length - 1)[:, None] + jnp.arange(self.columns)
        moved = jnp.broadcast_to((moved % self.columns)[:, None], grid.shape)
        return Grid(jnp.take_along_axis(longer[:, 1:], moved, axis=2), pool)


@typed
def lookahead(model: Model, *, ngram: int = 5, columns: int = 7, guesses: int = 7) -> Lookahead:
    """Guesses n-grams that the target produced in Jacobi iterations on later positions, and iterates on.

        grid[l + 1, j] = argmax p(. | committed text, grid[0, <= j], grid[1, j], ..., grid[l, j])

    One forward scores a grid of `N - 1` levels and `W` columns of guesses at the positions ahead, of which each column
    becomes an n-gram with the target's answer to it, and up to G n-grams of the pool that begin with the pending token.
    All hang off the pending token as one tree, so that a token of the grid can be accepted like any other draft; what
    several of them begin with stands in it once, so that a verifier that rejects a sibling loses none of what follows.

    Args:
      model: the target, for its vocabulary.
      ngram: N, at least 2.
      columns: W, at least 1.
      guesses: G, at least 1.

    Raises:
      ValueError: if `ngram < 2`, `columns < 1` or `guesses < 1`.

    Exactness: that of the verifier.
    Source: 2402.02057, with its defaults. Here the grid starts with the end of the prompt rather than random tokens,
    the prompt's n-grams are in the pool, and a grid moves as many columns as tokens were committed. Answers are the
    most probable tokens. Memory: `V G N` integers a row.
    """
    check_sizes(columns=columns, guesses=guesses)
    if ngram < 2:
        raise ValueError(f"ngram must be at least 2, got {ngram}")
    depth = max(ngram + columns - 3, ngram - 1)  # of the last column, or of a guess
    return Lookahead(model.vocab_size, depth, ngram, columns, guesses)
