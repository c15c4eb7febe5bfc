"""Drafters for tests and controls."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Request
from jaxdec.model import Model, Output, Params
from jaxdec.speculative import drafters
from jaxdec.speculative.drafters import ModelDrafter
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

    def init(self, params: Params, request: Request, output: Output):
        """The chain's."""
        return self.chain.init(params, request, output)

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
    return CombDrafter(length, drafters.model(model, length=length))
