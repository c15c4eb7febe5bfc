"""Drafting from trigrams by simulations, as ADED does, with a corpus behind the text's own.

Legend: R buckets, k slots, D depth, N nodes, S simulations, V vocabulary.
"""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdec.arguments import typed
from jaxdec.decoding import Request
from jaxdec.model import Model, Params
from jaxdec.speculative.drafters.trigram_tree import Trigrams, TrigramTree, trigram_tree
from jaxdec.speculative.tree import check_sizes, keep_best

EXPLORE, EXPLORE_SLOWLY = 1.25, 19652.0
"""c_1 and c_2 of the rule by which simulations choose, those of 1911.08265."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Corpus:
    """What a corpus says of the token after two others: laws of trigrams, and to back off to, of bigrams and of tokens.

    Attributes:
      trigrams: one table, `[R, ...]`.
      tokens: int32 `[V + 1, k]`, what follows each token, the likeliest first; the last row is of all tokens.
      weights: float32 `[V + 1, k]`, their probabilities; 0 for none.
    """

    trigrams: Trigrams
    tokens: jax.Array
    weights: jax.Array

    def after(self, pairs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Tokens and weights `[..., k]` after pairs `[..., 2]`: of the pair, else of its last token, else of any."""
        _, tokens, weights = self.trigrams.at(pairs)
        for place in (pairs[..., 1], jnp.full(pairs.shape[:-1], len(self.tokens) - 1)):
            known = weights[..., :1] > 0
            tokens = jnp.where(known, tokens, self.tokens[place])
            weights = jnp.where(known, weights, self.weights[place])
        return tokens, weights


def corpus_of(
    texts: Iterable[ArrayLike], vocab_size: int, *, slots: int = 8, buckets: int = 4096
) -> Corpus:
    """Counts a corpus: of each pair, of each token and of all, the k tokens that follow most often, and how often.

    Args:
      texts: of token ids, each of any shape.
      vocab_size: V.
      slots: k, 1 to V.
      buckets: R; of pairs in one bucket the one that occurs most often is kept.

    Raises:
      ValueError: for sizes out of their limits, or tokens outside of the vocabulary.
    """
    check_sizes(buckets=buckets, slots=slots)
    if slots > vocab_size:
        raise ValueError(f"{slots} slots for a vocabulary of {vocab_size}")
    grams: list[dict[tuple[int, ...], dict[int, int]]] = [{}, {}, {}]
    for text in texts:
        row = np.asarray(text).reshape(-1).tolist()
        if row and not 0 <= min(row) <= max(row) < vocab_size:
            raise ValueError(f"the corpus holds tokens outside of a vocabulary of {vocab_size}")
        for place, token in enumerate(row):
            for size in range(min(place, 2) + 1):
                seen = grams[size].setdefault(tuple(row[place - size : place]), {})
                seen[token] = seen.get(token, 0) + 1

    def law(seen: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
        best = sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:slots]
        tokens, weights = np.zeros(slots, np.int32), np.zeros(slots, np.float32)
        tokens[: len(best)] = [token for token, _ in best]
        weights[: len(best)] = [count / sum(seen.values()) for _, count in best]
        return tokens, weights

    tokens = np.zeros((vocab_size + 1, slots), np.int32)
    weights = np.zeros((vocab_size + 1, slots), np.float32)
    for seen, place in [
        *((s, t[0]) for t, s in grams[1].items()),
        *((s, -1) for s in grams[0].values()),
    ]:
        tokens[place], weights[place] = law(seen)
    table = Trigrams.empty(buckets, slots)
    order = sorted(grams[2], key=lambda pair: sum(grams[2][pair].values()))
    pairs = np.asarray(order, np.int32).reshape(-1, 2)
    at = np.asarray(table.at(jnp.asarray(pairs))[0])
    arrays = [np.array(x) for x in (table.pairs, table.tokens, table.weights)]
    for pair, bucket in zip(order, at.tolist(), strict=True):  # the most frequent last
        arrays[0][bucket] = pair
        arrays[1][bucket], arrays[2][bucket] = law(grams[2][pair])
    return Corpus(Trigrams(*map(jnp.asarray, arrays)), jnp.asarray(tokens), jnp.asarray(weights))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Simulated:
    """A search tree of one row: S + 1 nodes, the first the pair before the first draft; slots are their children.

    Attributes:
      pairs: int32 `[S + 1, 2]`.
      tokens: int32 `[S + 1, k]`.
      priors: float32 `[S + 1, k]`.
      children: int32 `[S + 1, k]`, nodes; 0 for none yet.
      visits: float32 `[S + 1, k]`.
      values: float32 `[S + 1, k]`, sums of what was found below.
    """

    pairs: jax.Array
    tokens: jax.Array
    priors: jax.Array
    children: jax.Array
    visits: jax.Array
    values: jax.Array

    def best(self, node: jax.Array) -> jax.Array:
        """The slot that a simulation goes to from a node."""
        visits, prior = self.visits[node], self.priors[node]
        total = visits.sum()
        mean = jnp.where(visits > 0, self.values[node] / jnp.maximum(visits, 1), 0)
        push = EXPLORE + jnp.log((total + EXPLORE_SLOWLY + 1) / EXPLORE_SLOWLY)
        score = mean + prior * jnp.sqrt(jnp.maximum(total, 1)) / (1 + visits) * push
        return jnp.argmax(jnp.where(prior > 0, score, -1)).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class SearchedTrigrams(TrigramTree):
    """See `searched_trigrams`."""

    simulations: int = 128
    name: str = ""

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a request with an order, or a corpus that is none or of another vocabulary."""
        super().check(request, params)
        if not self.name:
            return
        corpus = self.own(params)
        if not isinstance(corpus, Corpus):
            raise ValueError(f"{self.name!r} must be a Corpus, got {type(corpus).__name__}")
        if corpus.tokens.shape != (self.vocab_size + 1, self.slots):
            raise ValueError(
                f"{self.name!r} holds {corpus.tokens.shape[1]} slots of {len(corpus.tokens) - 1} tokens, the "
                f"drafter has {self.slots} of {self.vocab_size}"
            )

    def after(
        self, params: Params, table: Trigrams, pair: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Tokens and weights `[k]` after a pair `[2]`: of the row's own table, else of the corpus."""
        _, tokens, weights = table.at(pair)
        if not self.name:
            return tokens, weights
        known = weights[:1] > 0
        far = params.after(pair)
        return jnp.where(known, tokens, far[0]), jnp.where(known, weights, far[1])

    def searched(self, params: Params, table: Trigrams, pair: jax.Array) -> Simulated:
        """The search tree after S simulations, each of which adds at most one node."""
        size, slots, depth = self.simulations + 1, self.slots, self.depth
        first = self.after(params, table, pair)
        ints, floats = jnp.zeros((size, slots), jnp.int32), jnp.zeros((size, slots), jnp.float32)
        start = Simulated(
            jnp.zeros((size, 2), jnp.int32).at[0].set(pair),
            ints.at[0].set(first[0]),
            floats.at[0].set(first[1]),
            ints,
            floats,
            floats,
        )

        def simulate(turn: jax.Array, tree: Simulated) -> Simulated:
            def down(carry, level):
                node, value, open_ = carry  # down known nodes, to the first slot without one
                slot = tree.best(node)
                prior = tree.priors[node, slot]
                going = open_ & (prior > 0)
                value = jnp.where(going, value * prior, value)
                below = tree.children[node, slot]
                out = node, slot, going
                return (below, value, going & (below > 0)), out

            begin = jnp.int32(0), jnp.float32(1), jnp.bool_(True)
            (_, value, _), (nodes, places, gone) = jax.lax.scan(down, begin, jnp.arange(depth))
            last = jnp.maximum(gone.sum() - 1, 0)
            above, slot = nodes[last], places[last]
            new = gone.any() & (tree.children[above, slot] == 0) & (gone.sum() < depth)
            token = tree.tokens[above, slot]
            pair = jnp.stack([tree.pairs[above, 1], token])
            found, weights = self.after(params, table, pair)
            own = jnp.where(new, turn + 1, size)  # past the end: dropped
            at = jnp.where(gone, nodes, size)
            return Simulated(
                tree.pairs.at[own].set(pair, mode="drop"),
                tree.tokens.at[own].set(found, mode="drop"),
                tree.priors.at[own].set(weights, mode="drop"),
                tree.children.at[jnp.where(new, above, size), slot].set(turn + 1, mode="drop"),
                tree.visits.at[at, places].add(1, mode="drop"),
                tree.values.at[at, places].add(value, mode="drop"),
            )

        return jax.lax.fori_loop(0, self.simulations, simulate, start)

    def paths(
        self, params: Params, table: Trigrams, pair: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The N slots that were visited most, the older of equals first, so that parents come before children."""
        tree = self.searched(params, table, pair)
        visits = tree.visits.reshape(-1)
        slot = jnp.arange(visits.size, dtype=jnp.int32)
        owner = jnp.zeros(len(tree.pairs), jnp.int32).at[tree.children.reshape(-1)].max(slot)
        node = slot // self.slots
        above = jnp.where(node > 0, owner[node], -1)  # the slot that each one's node hangs in
        return keep_best(visits, tree.tokens.reshape(-1), above, self.budget)


@typed
def searched_trigrams(
    model: Model,
    *,
    depth: int = 8,
    nodes: int = 64,
    simulations: int = 128,
    slots: int = 8,
    buckets: int = 4096,
    memory: float = 0.5,
    name: str = "",
) -> SearchedTrigrams:
    """Drafts by trigrams that adapt, as `trigram_tree` does, with a tree that simulations found and a corpus behind it.

    A simulation goes down from the end of the text to the child of the largest

        Q(s, a) + P(a | s) sqrt(N(s)) / (1 + N(s, a)) (c_1 + log((N(s) + c_2 + 1) / c_2)),

    adds the first node that it does not know, and adds the product of P along its way to what Q is the mean of. The
    tree holds the N slots that were visited most. P is the row's own trigram, else the corpus's, else its bigram, else
    its unigram.

    Args:
      model: the target, for its vocabulary.
      depth: D, at least 1.
      nodes: N, at least 1.
      simulations: S, at least 1.
      slots: k, as `trigram_tree` has it; so the following.
      buckets: R.
      memory: of the row's own table.
      name: of a `Corpus`, as `corpus_of` makes one, in the `params` of `generate`; without it there is no back-off.

    Raises:
      ValueError: as `trigram_tree`; where the request is, for a corpus that is none or of other sizes.

    Exactness: that of the verifier.
    Source: ADED, 2407.12021; its constants are not known: c_1 = 1.25 and c_2 = 19652 are those of MuZero.
    `trigram_tree` finds the likeliest paths themselves.
    """
    check_sizes(simulations=simulations)
    plain = trigram_tree(
        model, depth=depth, nodes=nodes, slots=slots, buckets=buckets, memory=memory
    )
    return SearchedTrigrams(**vars(plain), simulations=simulations, name=name)
