"""What Falcon learns from: blocks of drafts, and glances at their first tokens.

Slot i of a block of k predicts the target's feature at i + k and the law that is read from it; depth d = s k + r + 1 is
the r-th slot of the s-th block in a row that was drafted. The first block reads true pairs, the others pairs with
features that were predicted, as in drafting.

Glances: a first pass counts the slots whose best token is not the target's, W of them. Of lambda W blocks, drawn at
random, the first pair is replaced by the one that it should predict, (f_{i+k}, x_{i+k+1}); a second pass then learns
what the rest of these blocks are, given their first token. Lambda falls over the run.

Legend: B rows, T tokens, P slots that have a target, k slots of a block, D width.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdec import visibility
from jaxdec.model import Inputs, Output, Params
from jaxdec.models import Falcon, FalconConfig
from jaxdec.training import corpus
from jaxdec.training.drafted import Drafted
from jaxdec.training.objectives import Predictions
from pallas_kernels.span_attention import Keys


class Glanced(NamedTuple):
    """A batch, and how much of it is given away.

    Attributes:
      tokens: int32 `[B, T + 1]`.
      chance: float32 `[B, T]`, by which blocks are drawn.
      share: float32 `[B]`, lambda.
    """

    tokens: np.ndarray
    chance: np.ndarray
    share: np.ndarray


def draw(
    stream: np.ndarray,
    *,
    batch: int,
    length: int,
    seed: int,
    step: int,
    shares: tuple[float, float],
    steps: int,
) -> Glanced:
    """Random windows of a stream, a pure function of `(seed, step)`; lambda goes from one share to the other.

    Args:
      stream: integer array `[n]`.
      batch: B.
      length: T.
      seed: of the run.
      step: of the run.
      shares: lambda at its start and at its end.
      steps: of the run.
    """
    tokens = corpus.crops(stream, batch=batch, length=length, seed=seed, step=step)
    chance = np.random.default_rng((seed, step, 1)).random((batch, length), np.float32)
    share = shares[0] + (shares[1] - shares[0]) * step / steps
    return Glanced(tokens, chance, np.full(batch, share, np.float32))


def drafts(
    config: FalconConfig,
    params: Params,
    tokens: jax.Array,
    output: Output,
    unroll: int,
    glance: tuple[jax.Array, jax.Array] | None = None,
) -> list[Drafted]:
    """Drafts of depths 1 to `unroll` k, at every block of the text.

    Args:
      config: sizes.
      params: of the network.
      tokens: int32 `[B, T + 1]`.
      output: the target's for the first T tokens.
      unroll: blocks in a row that are drafted.
      glance: `(chance [B, T], share [B])` for a batch of which something is given away; None for nothing.
    """
    k = config.block
    size = (tokens.shape[1] - 1 - k) // k * k
    pairs = output.hidden[:, :size], tokens[:, 1 : size + 1]
    shown = jnp.zeros(pairs[1].shape, bool)
    graph = nnx.split(nnx.eval_shape(lambda: Falcon(config, rngs=nnx.Rngs(0))))[0]
    module = nnx.merge(graph, params)
    if glance is not None:
        first = jax.lax.stop_gradient(_read(module, pairs, 0, 1, [], None)[0].logits)
        wrong = first.argmax(-1) != output.logits[:, k : size + k].argmax(-1)
        shown = shown_blocks(wrong, glance[0][:, :size], glance[1], k)
        answers = output.hidden[:, k : size + k], tokens[:, k + 1 : size + k + 1]
        pick = lambda new, old: jnp.where(
            shown.reshape(*shown.shape, *(1,) * (old.ndim - 2)), new, old
        )
        pairs = tuple(map(pick, answers, pairs))  # type: ignore[assignment]
    found: list[Drafted] = []
    old: list[Keys] = []
    states = None
    features, words = pairs
    for step in range(unroll):
        read, states = _read(module, (features, words), step, unroll, old, states)
        entry: Any = read.entries
        entry = entry.layers[0]
        old.append(Keys(entry.keys, entry.values, _spans(size, k, step, unroll)[1], None))
        weights = (~shown).astype(jnp.float32)
        for place in range(k):
            slots = np.arange(step * k + place, size, k)
            at = lambda x, slots=slots: x[:, slots]
            laws = Predictions(at(read.logits), tokens[:, slots + k + 1], at(weights))
            found.append(Drafted(laws, at(read.hidden), slots + k))
        # The next block of drafts follows a true one, with the features that were predicted for it.
        features = jnp.pad(read.hidden[:, :-k], ((0, 0), (k, 0), (0, 0)))
        words, shown = tokens[:, 1 : size + 1], jnp.zeros(shown.shape, bool)
    return found


def shown_blocks(wrong: jax.Array, chance: jax.Array, share: jax.Array, k: int) -> jax.Array:
    """The first slots of lambda W blocks, bool `[B, P]`.

    Args:
      wrong: bool `[B, P]`, slots whose best token is not the target's.
      chance: float32 `[B, P]`; the blocks whose first slots have the least are taken.
      share: float32 `[B]`, lambda.
      k: slots of a block.
    """
    count = jnp.round(share * wrong.sum(-1))
    rank = jnp.argsort(jnp.argsort(chance[:, ::k], axis=-1), axis=-1)
    chosen = rank < count[:, None]
    return jnp.repeat(chosen, k, axis=1) & (jnp.arange(wrong.shape[1]) % k == 0)


def _spans(size: int, k: int, step: int, unroll: int) -> visibility.Spans:
    """Block b of a step sees the true blocks up to b - step, one block of each step between, and itself.

    A block has one number; those of true blocks leave room for what hangs off them.
    """
    block = jnp.arange(size)[None] // k
    number = (block - step) * unroll + step
    stop = number if unroll == 1 or not step else (block - step) * unroll + unroll - 1
    if not step:
        stop = jnp.full_like(number, visibility.FOREVER)
    pair = lambda a, b: jnp.stack([a, b], axis=-1).astype(jnp.int32)
    return visibility.Spans(pair(number, number), pair(number, stop))


def _read(
    module: Falcon,
    pairs: tuple[jax.Array, jax.Array],
    step: int,
    unroll: int,
    old: list[Keys],
    states: jax.Array | None,
) -> tuple[Output, jax.Array]:
    """The network over all blocks of a step, and the states after each pair; `states` are those of the step before."""
    features, words = pairs
    batch, size = words.shape
    k = module.config.block
    positions = jnp.broadcast_to(jnp.arange(1, size + 1, dtype=jnp.int32), words.shape)
    whole = lambda x: jnp.broadcast_to(x, (batch, *x.shape[1:]))
    query_spans, key_spans = map(whole, _spans(size, k, step, unroll))
    inputs = Inputs(words, positions, query_spans, key_spans, features=features)
    summed = module.pairs(inputs)
    start = jnp.zeros((batch, module.config.state), jnp.float32)
    if states is None:
        states = module.memory.sequence(summed, start)
    else:  # every block goes on from the block before it, as that stood a step before
        ends = jnp.concatenate([start[:, None], states[:, k - 1 : -1 : k]], axis=1)
        apart = lambda x: x.reshape(-1, k, x.shape[-1])
        states = module.memory.sequence(apart(summed), ends.reshape(-1, ends.shape[-1]))
        states = states.reshape(batch, size, -1)
    earlier = [
        keys._replace(
            key_spans=jnp.broadcast_to(keys.key_spans, (batch, size, 2)), positions=positions
        )
        for keys in old
    ]
    return module.read(inputs, states, *earlier), states
