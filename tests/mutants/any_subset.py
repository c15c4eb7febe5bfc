"""Faults of any-subset decoding: orders, drafters, densities, and the results of `infill`."""

from tests.mutants.mutant import Mutant

HERE = "jaxdec/any_subset"

MUTANTS = [
    Mutant(
        "lattice from right to left",
        f"{HERE}/orders.py",
        "xp.where(inside, xp.where(visible, 0, 1), 2)",
        "xp.where(inside, xp.where(visible, 0, 999 - xp.arange(visible.shape[1])), 9999)",
        "gaps are filled from the right",
    ),
    Mutant(
        "lattice ranks of hidden positions",
        f"{HERE}/orders.py",
        "rest = jnp.cumsum(~visible, axis=-1) + first[..., -1:]",
        "rest = jnp.cumsum(~visible, axis=-1) + first[..., :1]",
        "ranks of hidden positions collide with those of visible ones",
    ),
    Mutant(
        "density lacks the first gap",
        f"{HERE}/density.py",
        "ranks = order.visible[:, None] + jnp.arange(masked)",
        "ranks = order.visible[:, None] + 1 + jnp.arange(masked)",
        "the first gap has no term",
    ),
    Mutant(
        "self drafts one rank late",
        f"{HERE}/drafters/self_draft.py",
        "ranks = rows.length[:, None] + jnp.arange(self.depth)",
        "ranks = rows.length[:, None] + 1 + jnp.arange(self.depth)",
        "the target is asked for the ranks after the next ones",
    ),
    Mutant(
        "riding queries one rank early",
        f"{HERE}/drafters/fused_draft.py",
        "[:, None] + 1 + np.arange(self.depth)",
        "[:, None] + np.arange(self.depth)",
        "the next window is asked for from the wrong rank on",
    ),
    Mutant(
        "riding answers of another end",
        f"{HERE}/drafters/fused_draft.py",
        "jnp.asarray(covered)[last][:, None] * self.depth + ahead",
        "jnp.asarray(covered)[0 * last][:, None] * self.depth + ahead",
        "the window drafted is that of a rejected path",
    ),
    Mutant(
        "drafts past the end",
        f"{HERE}/drafters/fused_draft.py",
        "available = jnp.minimum(state.ready, context.remaining)",
        "available = state.ready",
        "ranks past the end of a row are drafted",
    ),
    Mutant(
        "bigrams of the right neighbour",
        f"{HERE}/drafters/context_ngram.py",
        "left = jnp.maximum(position - 1, 0)[:, None]",
        "left = jnp.minimum(position + 1, size - 1)[:, None]",
        "a draft follows its right neighbour",
    ),
    Mutant(
        "bigrams claim another law",
        f"{HERE}/drafters/context_ngram.py",
        "return (canvas, filled | here), (token, law)",
        "return (canvas, filled | here), (token, jnp.log(unigrams / unigrams.sum(-1, keepdims=True)))",
        "drafts are said to be drawn by unigrams",
    ),
    Mutant(
        "parallel sampling stores what it drew",
        f"{HERE}/parallel_sampling.py",
        "jnp.where(count > 0, unseen, 0)",
        "count",
        "the cache holds tokens that were not scored",
    ),
    Mutant(
        "parallel sampling shares its noise",
        f"{HERE}/parallel_sampling.py",
        "token_noise(rng, ranks,",
        "token_noise(rng, jnp.broadcast_to(ranks[:, :1], ranks.shape),",
        "all tokens of a step are drawn with one noise",
    ),
    Mutant(
        "infilled knows one rank more",
        "jaxdec/generation/infill.py",
        "known=by_place(ranks < rows.length[:, None])",
        "known=by_place(ranks <= rows.length[:, None])",
        "a position that was not filled is said to be",
    ),
    Mutant(
        "infilled by rank",
        "jaxdec/generation/infill.py",
        "at = jnp.where(ranks < order.size[:, None], order.places, length)",
        "at = jnp.where(ranks < order.size[:, None], ranks + 0 * order.places, length)",
        "results are laid out by rank",
    ),
    Mutant(
        "ranks know nothing of those before them",
        "jaxdec/any_subset/parallel_sampling.py",
        "rows.history.at(ranks)",
        "rows.history",
        "all tokens of a step are told the same place",
    ),
]
