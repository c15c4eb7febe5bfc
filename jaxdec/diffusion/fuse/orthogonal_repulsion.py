"""ODD: the samples of a prompt repel one another.

Legend: B rows, P prompts of H hypotheses each, W positions of the active group, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob, Scored
from jaxdec.diffusion.contract import Knobs, knob_default
from jaxdec.diffusion.fuse.contract import Fuse, Standing
from jaxdec.model import Params

LEAST = 1e-6
"""The residual below which a sample shows nothing new, and gets no force."""


@dataclasses.dataclass(frozen=True)
class OrthogonalRepulsion(Fuse):
    """See `orthogonal_repulsion`."""

    strength: float = knob_default()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`repulsion`: alpha."""
        return {"repulsion": Knob(self.strength, 0)}

    def fuse(
        self, params: Params, scored: Scored, standing: Standing, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Steps against the gradient, shorter the more is committed."""
        logits, group = scored.logits, standing.hypotheses
        if group == 1:
            return logits, state
        vectors, _ = _features(logits, standing)
        finite = jnp.isfinite(vectors).all(-1, keepdims=True)
        ways = _new_directions(jnp.where(finite, vectors, 0).reshape(-1, group, vectors.shape[-1]))
        ways = jax.lax.stop_gradient(ways.reshape(vectors.shape))

        def loss(logits: jax.Array) -> jax.Array:
            vectors, quality = _features(logits, standing)
            return -(jnp.vecdot(vectors, ways) * quality).sum()

        force = jax.grad(loss)(logits)
        tokens = jnp.broadcast_to(jnp.arange(logits.shape[-1]), (len(logits), logits.shape[-1]))
        held = standing.settings.ends(tokens)[:, None] | ~standing.masked[..., None]
        force = jnp.where(held, 0, force)
        largest = jnp.linalg.norm(force, axis=-1).max(-1)[:, None, None]
        open_ = standing.masked.sum(-1) / jnp.maximum(standing.opened, 1)
        length = (knobs["repulsion"] * jnp.minimum(open_, 1)).astype(logits.dtype)[:, None, None]
        moved = logits - length * force / jnp.where(largest > 0, largest, 1)
        first = jnp.arange(len(logits)) % group == 0
        still = first[:, None, None] | ~(largest > 0) | (length == 0)
        return jnp.where(still, logits, moved), state


def _features(logits: jax.Array, standing: Standing) -> tuple[jax.Array, jax.Array]:
    """What each row is about, of norm 1, `[B, V]`, and how sure its masked positions are on average, `[B]`."""
    law = jax.nn.softmax(logits)
    words = jax.nn.one_hot(standing.tokens, logits.shape[-1], dtype=law.dtype)
    held = standing.there & ~standing.masked
    pooled = jnp.where(standing.masked[..., None], law, jnp.where(held[..., None], words, 0)).max(1)
    norm = jnp.sqrt((pooled * pooled).sum(-1, keepdims=True) + jnp.finfo(law.dtype).tiny)
    sure = jnp.where(standing.masked, law.max(-1), 0).sum(-1)
    return pooled / norm, sure / jnp.maximum(standing.masked.sum(-1), 1)


def _new_directions(vectors: jax.Array) -> jax.Array:
    """What each of `vectors [P, H, V]` adds to those before it, of norm 1; 0 where it adds nothing."""

    def step(basis: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
        own = jnp.take(vectors, at, axis=1)

        def without(own: jax.Array, way: jax.Array) -> tuple[jax.Array, None]:
            return own - jnp.vecdot(own, way)[:, None] * way, None

        # One after the other, each from what the one before left over.
        own, _ = jax.lax.scan(without, own, jnp.moveaxis(basis, 1, 0))
        norm = jnp.linalg.norm(own, axis=-1, keepdims=True)
        way = jnp.where(norm > LEAST, own / jnp.where(norm > LEAST, norm, 1), 0)
        return basis.at[:, at].set(way), way

    _, ways = jax.lax.scan(step, jnp.zeros_like(vectors), jnp.arange(vectors.shape[1]))
    return jnp.moveaxis(ways, 0, 1)


@typed
def orthogonal_repulsion(strength: float = 16.0) -> OrthogonalRepulsion:
    """ODD: each sample of a prompt is moved towards what the samples before it are not about.

        v_k = max over positions of the law at masks and of one-hot tokens elsewhere, of norm 1
        d_k = what v_k adds to d_1, ..., d_(k-1), of norm 1;   q_k = mean over masks of max p
        logits_k <- logits_k + alpha m / M  grad (v_k . d_k) q_k / (its largest norm at a position),   d_k held fixed

    with m of M positions of the group masked, so that the pull falls to nothing. For `generate(..., hypotheses=H)`: the
    first sample of each prompt stays as it is, and with H = 1 nothing changes. Tokens that end a row are not pushed.

    Args:
      strength: alpha (knob `repulsion`); 0 changes nothing.

    Features are over the active group: with `schedules.whole()` that is all that is generated. Samples that are equal
    so far get no force (their residual is 0), so there is none in the first step, where all see the same law, nor at
    temperature 0. Samples of a prompt depend on one another, prompts do not.

    Exactness: heuristic.

    Source: ODD 2603.04893, whose lambda cancels in the division. Missing are its other poolings, embeddings as features
    and the loss of determinants.
    """
    return OrthogonalRepulsion(strength)
