"""Drafters for tests and controls."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.decoding import Request
from jaxdec.model import Inputs, Model, Params
from jaxdec.sampling import Purpose, gumbel, key_at, perturbed_argmax
from jaxdec.speculative.drafters.model import ModelDrafter
from jaxdec.speculative.parts import Committed, Context, Drafter
from jaxdec.speculative.tree import DraftTree


@dataclasses.dataclass(frozen=True)
class CombDrafter(Drafter):
    """A tree: the chain of a model drafter with the next-best token beside each link.

    Nodes 0 .. D-1 are the chain; node D + d is the sibling of node d. It shows trees to a verifier, with a parent that
    is not the node before, and rows that lack siblings.
    """

    depth: int
    chain: ModelDrafter

    @property
    def nodes(self) -> int:
        """N = 2 D."""
        return 2 * self.chain.depth

    @property
    def forwards(self) -> int:
        """The chain's."""
        return self.chain.forwards

    def check(self, request: Request, params: Params, vocab_size: int) -> None:
        """The chain's."""
        self.chain.check(request, params, vocab_size)

    def init(self, params: Params, request: Request):
        """The chain's."""
        return self.chain.init(params, request)

    def propose(self, params: Params, state, context: Context):
        """The chain and its siblings; every third position has no sibling."""
        tree, made = self.chain.propose(params, state, context)
        assert tree.q is not None
        taken = jax.nn.one_hot(tree.tokens, tree.q.shape[-1], dtype=bool)
        second = jnp.argmax(jnp.where(taken, -jnp.inf, tree.q + context.noise[:, :-1]), axis=-1)
        place = context.rows.length[:, None] + jnp.arange(self.depth)
        tree = DraftTree(
            tokens=jnp.concatenate([tree.tokens, second.astype(jnp.int32)], axis=1),
            parents=jnp.concatenate([tree.parents, tree.parents], axis=1),
            mask=jnp.concatenate([tree.mask, place % 3 > 0], axis=1),
            q=None,
            depth=self.depth,
        )
        return tree, made

    def update(self, state, made, committed: Committed):
        """The chain's: it commits what it scored, wherever the tokens came from."""
        return self.chain.update(state, made, committed)


def comb(model: Model, *, length: int = 4) -> CombDrafter:
    """A `CombDrafter` over a model."""
    return CombDrafter(length, ModelDrafter(model, length))


@dataclasses.dataclass(frozen=True)
class BranchingDrafter(Drafter):
    """Draws `counts[d]` children for every node of depth d from a causal model, which reads everything anew.

    Siblings are independent draws (`replacement`), or draws without replacement; a law that has run out of tokens has
    no further children.
    """

    depth: int
    model: Model
    counts: tuple[int, ...]
    replacement: bool

    @property
    def nodes(self) -> int:
        """The sum of the levels' sizes."""
        return int(np.cumprod(self.counts).sum())

    @property
    def forwards(self) -> int:
        """One a level."""
        return self.depth

    @property
    def independent(self) -> bool:
        """Whether siblings are drawn with replacement."""
        return self.replacement

    def propose(self, params: Params, state: None, context: Context) -> tuple[DraftTree, None]:
        """Draws level by level, with fresh noise for every node."""
        rows, (batch, length) = context.rows, context.rows.tokens.shape
        parents, level = np.full(self.nodes, -1), [-1]
        tokens = jnp.zeros((batch, self.nodes), jnp.int32)
        mask, q = tokens > 0, jnp.zeros((*tokens.shape, self.model.vocab_size))
        start = 0
        known = Inputs.causal(rows.tokens, 0, jnp.arange(length) < rows.length[:, None])
        for depth, count in enumerate(self.counts):
            spans = visibility.tree(jnp.asarray(parents), rows.length, mask)
            depths = visibility.ancestors(jnp.asarray(parents)[None]).sum(-1) - 1
            new = Inputs(tokens, rows.length[:, None] + depths, spans.looks, spans.lives)
            inputs = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), known, new)
            logits = self.model.forward(params["draft"], inputs, None).logits
            at = jnp.where(depth == 0, rows.length[:, None] - 1, length + jnp.asarray(level))
            logits = jnp.take_along_axis(logits, at[..., None], axis=1)
            law = context.settings.warp.log_probs(logits, rows.history)
            exists = jnp.ones((batch, 1), bool) if depth == 0 else mask[:, np.array(level)]
            children: list[int] = []
            for _ in range(count):
                place = np.arange(start, start + len(level))
                own = jnp.asarray(self.depth + 1 + place)  # those before are the context's
                keys = key_at(context.keys, Purpose.DRAFT, rows.rounds[:, None], own)
                token = perturbed_argmax(law, gumbel(keys, law.shape[-1]))
                tokens, q = tokens.at[:, place].set(token), q.at[:, place].set(law)
                mask = mask.at[:, place].set(exists & jnp.isfinite(law).any(-1))
                parents[place] = level
                children += place.tolist()
                start += len(level)
                if not self.replacement:
                    taken = jax.nn.one_hot(token, law.shape[-1], dtype=bool)
                    left = jnp.where(taken, -jnp.inf, law)
                    total = jax.nn.logsumexp(left, axis=-1, keepdims=True)
                    law = jnp.where(jnp.isfinite(total), left - total, -jnp.inf)
            level = children
        shape = jnp.broadcast_to(jnp.asarray(parents, jnp.int32), tokens.shape)
        return DraftTree(tokens, shape, mask, q, depth=self.depth), None


def branching(model: Model, *counts: int, replacement: bool = False) -> BranchingDrafter:
    """A `BranchingDrafter` over a model."""
    return BranchingDrafter(len(counts), model, counts, replacement)
