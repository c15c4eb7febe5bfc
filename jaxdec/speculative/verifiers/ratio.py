"""Verification by probability ratios: the shared sampler, and the rules for chains.

Each rule is a deterministic *law* (what is accepted with which probability, and from which law the closing token is
drawn) and one sampler of such laws, so that exactness is proved by summing the law over all drafts, with no randomness.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, V vocabulary. Laws are written for probabilities of any float
type.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness
from jaxdec.sampling import Purpose, gumbel, key_at, perturbed_argmax, uniform
from jaxdec.speculative.parts import Context, Outcome, Verifier
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.walk import furthest, lineage_path, taken


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


def token_law(p: jax.Array, q: jax.Array, tokens: jax.Array, mask: jax.Array) -> TreeLaw:
    """The token rule: accept draft x_i iff `u_i q_i(x_i) < p_i(x_i)`, up to the first failure.

    After A accepted drafts the closing token has the law `[p_{A+1} - q_{A+1}]+`, normalised, and `p_{N+1}` after all.

    Args:
      p: `[B, N + 1, V]`, target laws after 0, ..., N drafts.
      q: `[B, N, V]`, the laws that the drafts were drawn from (one-hot for a chosen draft).
      tokens: int32 `[B, N]`, the drafts x.
      mask: bool `[B, N]`, a prefix of each row: the drafts that exist.

    Source: Leviathan et al., 2211.17192; Chen et al., 2302.01318.
    """
    p_x, q_x = at_tokens(p[:, :-1], tokens), at_tokens(q, tokens)
    # A draft that does not exist never passes, and takes nothing away from the law that closes there.
    q = jnp.where(mask[..., None], q, 0)
    closing = residual(p, jnp.pad(q, ((0, 0), (0, 1), (0, 0))))
    return TreeLaw(jnp.where(mask, p_x, 0), jnp.where(mask, q_x, 1), closing)


def block_law(p: jax.Array, q: jax.Array, tokens: jax.Array, mask: jax.Array) -> TreeLaw:
    """Block verification: judge prefixes as wholes; the *last* success counts.

    With `w_0 = 1, w_i = min(1, w_{i-1} p_i(x_i) / q_i(x_i))` and, for i before the last draft,
    `S_i = sum_v [w_i p_{i+1}(v) - q_{i+1}(v)]+`, prefix i passes with probability

        h_i = S_i / (S_i + 1 - w_i),   h_N = w_N,

    and the closing token after A drafts has the law `[w_A p_{A+1} - q_{A+1}]+`, normalised (`p_{N+1}` after all).

    Args:
      p: `[B, N + 1, V]`.
      q: `[B, N, V]`.
      tokens: int32 `[B, N]`.
      mask: bool `[B, N]`, a prefix of each row.

    Source: Sun et al., 2403.10444; at least as many accepted drafts as the token rule in expectation.
    """
    p_x, q_x = at_tokens(p[:, :-1], tokens), at_tokens(q, tokens)
    ratio = jnp.where(q_x > 0, p_x / jnp.where(q_x > 0, q_x, 1), 0)

    def grow(weight, ratio):
        weight = jnp.minimum(1, weight * ratio)
        return weight, weight

    _, weights = jax.lax.scan(grow, jnp.ones_like(ratio[:, 0]), jnp.where(mask, ratio, 1).T)
    weights = weights.T  # w_1..w_N, [B, N]
    before = jnp.pad(weights, ((0, 0), (1, 0)), constant_values=1)  # w_0..w_N
    q = jnp.pad(jnp.where(mask[..., None], q, 0), ((0, 0), (0, 1), (0, 0)))
    surplus = jnp.maximum(before[..., None] * p - q, 0).sum(-1)[:, 1:]  # S_1..S_N
    last = mask & ~jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
    numerator = jnp.where(last, weights, surplus)
    denominator = jnp.where(last, 1, surplus + 1 - weights)
    closing = residual(p, q, before[..., None])
    return TreeLaw(jnp.where(mask, numerator, 0), jnp.where(mask, denominator, 1), closing)


def first_failure(passed: jax.Array) -> jax.Array:
    """Accepted drafts `[...]` from tests bool `[..., N]`: the length of the leading run of successes."""
    return jnp.cumprod(passed.astype(jnp.int32), axis=-1).sum(-1)


def last_success(passed: jax.Array) -> jax.Array:
    """Accepted drafts `[...]` from tests bool `[..., N]`: the place of the last success, 0 if there is none."""
    return (passed * jnp.arange(1, passed.shape[-1] + 1)).max(-1, initial=0)


def at_tokens(laws: jax.Array, tokens: jax.Array) -> jax.Array:
    """The probability `[B, N]` of each token in its law `[B, N, V]`."""
    return jnp.take_along_axis(laws, tokens[..., None], axis=-1)[..., 0]


@dataclasses.dataclass(frozen=True)
class RatioVerifier(Verifier):
    """Judges a tree by a law; subclasses state the law, and this class samples it."""

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

    def last(self, passed: jax.Array, tree: DraftTree) -> jax.Array:
        """The scored token int32 `[B]` where the walk ends, for the tests bool `[B, N]`: the first to pass is taken."""
        return furthest(tree.lineage(), taken(tree, passed))

    def verify(self, tree: DraftTree, log_probs: jax.Array, context: Context) -> Outcome:
        """See `jaxdec.speculative.parts.Verifier`."""
        p, q = _laws(tree, log_probs)
        law = self.law(p, q, tree)
        u, key = randomness(tree, context)
        last = self.last(u * law.denominator < law.numerator, tree)
        closing = jnp.take_along_axis(law.closing, last[:, None, None], axis=1)[:, 0]
        noise = gumbel(key, closing.shape[-1])
        path, count = lineage_path(tree.lineage(), last, tree.depth)
        return Outcome(path, count, perturbed_argmax(jnp.log(closing), noise))


def randomness(tree: DraftTree, context: Context) -> tuple[jax.Array, jax.Array]:
    """The uniforms `[B, N]` of the tests, and the keys `[B]` of the closing tokens."""
    rounds, nodes = context.rows.rounds, jnp.arange(tree.tokens.shape[1])
    u = uniform(key_at(context.keys, Purpose.ACCEPT, rounds[:, None], nodes))
    return u, key_at(context.keys, Purpose.RESIDUAL, rounds)


def _laws(tree: DraftTree, log_probs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Target and draft probabilities; a chosen draft has a one-hot law, a settled one the target's."""
    p = jnp.exp(log_probs)
    q = jax.nn.one_hot(tree.tokens, p.shape[-1]) if tree.q is None else jnp.exp(tree.q)
    # Equal bit for bit, so that the test of a settled draft cannot fail by rounding.
    return p, jnp.concatenate([p[:, : tree.settled], q[:, tree.settled :]], axis=1)


@dataclasses.dataclass(frozen=True)
class TokenRatio(RatioVerifier):
    """Speculative sampling: accepts each draft with probability `min(1, p(x) / q(x))`; see `token_law`.

    Exactness: distribution-identical; at temperature 0 the same tokens as plain decoding.
    """

    chains_only: bool = True

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `token_law`."""
        return token_law(p, q, tree.tokens, tree.mask)

    def last(self, passed: jax.Array, tree: DraftTree) -> jax.Array:
        """The draft before the first failure."""
        return first_failure(passed)


@dataclasses.dataclass(frozen=True)
class BlockVerification(RatioVerifier):
    """Block verification: accepts the longest prefix that passes as a whole; see `block_law`.

    Exactness: distribution-identical; at temperature 0 the same tokens as plain decoding.
    """

    chains_only: bool = True

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `block_law`."""
        return block_law(p, q, tree.tokens, tree.mask)

    def last(self, passed: jax.Array, tree: DraftTree) -> jax.Array:
        """The last success."""
        return last_success(passed)
