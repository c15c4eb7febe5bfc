"""Verification by probability ratios: laws of trees, and the one sampler of such laws.

A rule is a deterministic *law* (what is accepted with which probability, and from which law the closing token is
drawn), so that exactness is proved by summing the law over all drafts, with no randomness.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, V vocabulary. Laws are written for probabilities of any float
type.
"""

import abc
import copy
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness, Scored, Settings
from jaxdec.model import Params
from jaxdec.sampling import Purpose, gumbel, key_at, perturbed_argmax, uniform
from jaxdec.speculative.contract import Context, Verdict, Verifier
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.paths import furthest, lineage_path, taken


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TreeLaw:
    """How a tree of drafts is judged.

    Node n is tested once its parent is accepted and all of its earlier siblings have failed. It passes iff
    `u_n * denominator_n < numerator_n` for a fresh uniform u_n: strict, so that a token of probability zero never
    passes, and without a division.

    Attributes:
      numerator: `[B, N]`; 0 for a node that does not exist.
      denominator: `[B, N]`.
      closing: `[B, T, V]`, the law of the token that follows each scored token once all of its children have failed.
    """

    numerator: jax.Array
    denominator: jax.Array
    closing: jax.Array

    def without(self, banned: jax.Array, tree: DraftTree, otherwise: jax.Array) -> "TreeLaw":
        """The law that never emits what is banned, bool `[B, T, V]`, even if the law of a target that is relaxed does.

        Args:
          banned: tokens that must not follow each scored token.
          tree: what is judged.
          otherwise: `[B, T, V]`, closing laws where nothing else is left.
        """
        rows = jnp.arange(len(banned))[:, None]
        numerator = jnp.where(banned[rows, tree.parents + 1, tree.tokens], 0, self.numerator)
        closing = normalised(jnp.where(banned, 0, self.closing), otherwise)
        return TreeLaw(numerator, self.denominator, closing)

    @property
    def passing(self) -> jax.Array:
        """Probability `[B, N]` that each test passes."""
        safe = jnp.where(self.denominator > 0, self.denominator, 1)
        ratio = jnp.where(self.denominator > 0, self.numerator / safe, self.numerator > 0)
        return jnp.clip(ratio, 0, 1)


def residual(p: jax.Array, q: jax.Array, scale: jax.Array | float = 1.0) -> jax.Array:
    """The law `[scale * p - q]+`, normalised over the last axis; p itself where nothing is left."""
    return normalised(jnp.maximum(scale * p - q, 0), p)


def normalised(left: jax.Array, otherwise: jax.Array) -> jax.Array:
    """`left` over its sum along the last axis; `otherwise` where nothing is left."""
    total = left.sum(-1, keepdims=True)
    return jnp.where(total > 0, left / jnp.where(total > 0, total, 1), otherwise)


def at_tokens(laws: jax.Array, tokens: jax.Array) -> jax.Array:
    """The probability `[B, N]` of each token in its law `[B, N, V]`."""
    return jnp.take_along_axis(laws, tokens[..., None], axis=-1)[..., 0]


def at_parents(laws: jax.Array, parents: jax.Array) -> jax.Array:
    """The law `[B, N, V]` of each node's parent, of laws `[B, T, V]`."""
    return jnp.take_along_axis(laws, parents[..., None] + 1, axis=1)


def column(knob: float | jax.Array, ndim: int) -> float | jax.Array:
    """A knob, one value or `[B]`, shaped to broadcast against `[B, ...]` of `ndim` axes."""
    return knob.reshape(-1, *(1,) * (ndim - 1)) if isinstance(knob, jax.Array) else knob


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatioVerifier(Verifier):
    """Judges a tree by a law; subclasses state the law, and this class samples it.

    A subclass with knobs has a field of the name of each, which holds its default, and the law reads the field.
    """

    exactness: Exactness = Exactness.DISTRIBUTION_IDENTICAL
    shares_noise: bool = False
    chains_only: bool = False
    needs_independence: bool = False

    @abc.abstractmethod
    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """The law of a tree.

        Args:
          p: `[B, T, V]`, target laws after each scored token.
          q: `[B, N, V]`, the laws that the nodes were drawn from.
          tree: tokens, parents and mask.
        """

    def judged(self, p: jax.Array, tree: DraftTree, scored: Scored, context: Context) -> jax.Array:
        """The laws `[B, T, V]` that the tree is judged by; the target's own, p, unless a subclass says otherwise."""
        return p

    def settled(self, params: Params, settings: Settings, scored: Scored) -> "RatioVerifier":
        """The verifier whose law is that of a step: fields of knobs hold `[B]`, others weights or what states say.

        Args:
          params: the verifier's own.
          settings: of the request.
          scored: what the target says after each scored token.
        """
        given: dict[str, Any] = {name: settings.knobs[name] for name in self.knobs}
        return self.of_step(**given)

    def of_step(self, **fields: Any) -> "RatioVerifier":
        """A copy with what a step alone knows: arrays, which no caller can give, since verifiers compare by value."""
        copied = copy.copy(self)
        for name, value in fields.items():
            object.__setattr__(copied, name, value)
        return copied

    def last(self, passed: jax.Array, tree: DraftTree) -> jax.Array:
        """The scored token int32 `[B]` where the walk ends, for the tests bool `[B, N]`: the first to pass is taken."""
        return furthest(tree.lineage(), taken(tree, passed))

    def verify(
        self,
        params: Params,
        tree: DraftTree,
        scored: Scored,
        log_probs: jax.Array,
        context: Context,
    ) -> Verdict:
        """See `jaxdec.speculative.contract.Verifier`."""
        p, q = _laws(tree, log_probs)
        rule = self.settled(params, context.settings, scored)
        p = rule.judged(p, tree, scored, context)
        law = rule.law(p, q, tree)
        if self.exactness in (Exactness.APPROXIMATE, Exactness.HEURISTIC):
            logits = context.settings.warp.staged(scored.logits, context.history)[1]
            law = law.without(logits == -jnp.inf, tree, p)
        u, key = randomness(tree, context)
        last = self.last(u * law.denominator < law.numerator, tree)
        closing = jnp.take_along_axis(law.closing, last[:, None, None], axis=1)[:, 0]
        noise = gumbel(key, closing.shape[-1])
        path, count = lineage_path(tree.lineage(), last, tree.depth)
        next_token = perturbed_argmax(jnp.log(closing), noise)
        return Verdict.of(tree, path, count, next_token, logits=scored.logits, log_probs=log_probs)


def randomness(tree: DraftTree, context: Context) -> tuple[jax.Array, jax.Array]:
    """The uniforms `[B, N]` of the tests, and the keys `[B]` of the closing tokens."""
    rounds, nodes = context.rows.rounds, jnp.arange(tree.tokens.shape[1])
    u = uniform(key_at(context.keys, Purpose.ACCEPT, rounds[:, None], nodes))
    return u, key_at(context.keys, Purpose.RESIDUAL, rounds)


def _laws(tree: DraftTree, log_probs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Target and draft probabilities; a chosen draft has a one-hot law, one that the target drew the target's."""
    p = jnp.exp(log_probs)
    q = (
        jax.nn.one_hot(tree.tokens, p.shape[-1], dtype=p.dtype)
        if tree.q is None
        else jnp.exp(tree.q)
    )
    # Equal bit for bit, so that the test of such a draft cannot fail by rounding.
    return p, jnp.concatenate([p[:, : tree.target_drawn], q[:, tree.target_drawn :]], axis=1)
