"""Self-speculation: the first layers of the target draft for all of them.

Legend: B rows, E exits, D depth, T = D + 1 scored tokens, V vocabulary, L layers.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import TARGET, Request, Rows
from jaxdec.model import Inputs, Model, Output, Params, early_exit, readout
from jaxdec.speculative.contract import Context, StepResult
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.growth import Frontier, chain, grow
from jaxdec.speculative.tree import DraftTree, check_sizes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExitCounts:
    """How the exits of each row fared lately: `[..., 0]` where an exit said what the target says, `[..., 1]` where not.

    Attributes:
      counts: float32 `[B, E, 2]`, places, older ones weighing less.
      sums: float32 `[B, E, 2]`, how sure the exit was there, summed with the same weights.
    """

    counts: jax.Array
    sums: jax.Array

    def choose(self, layers: jax.Array, whole: int, depth: int) -> tuple[jax.Array, ...]:
        """The best exit `[B]`, how many drafts `[B]`, and how sure a draft must be `[B]` for another to follow.

        Args:
          layers: int32 `[E]`, of each exit.
          whole: L.
          depth: D.
        """
        rate = self.counts[..., :1] / self.counts.sum(-1, keepdims=True)  # [B, E, 1]
        drafts = jnp.arange(depth + 1)
        tokens = jnp.cumsum(rate**drafts, axis=-1)
        speed = tokens / (whole + drafts * layers[:, None])  # [B, E, D + 1]
        best = jnp.argmax(speed.reshape(len(speed), -1), axis=-1).astype(jnp.int32)
        chosen, length = best // (depth + 1), best % (depth + 1)
        mean = (self.sums / jnp.maximum(self.counts, 1e-6)).mean(-1)
        return chosen, length, jnp.take_along_axis(mean, chosen[:, None], axis=1)[:, 0]


@dataclasses.dataclass(frozen=True)
class EarlyExits(CausalDrafter):
    """Drafts a chain with networks that read the target's own cache; see `layer_skip` and `dynamic_exit`.

    Attributes:
      exits: each a number of layers and the network of so many.
      layers: L.
      depth: D.
      read: `(params, states [B, T, D]) -> logits`, of states after any layer; None for a single exit and fixed length.
      memory: the weight of the counts of a step before.
      name: of the networks' parameters.
    """

    exits: tuple[tuple[int, Model], ...]
    layers: int
    depth: int
    read: Callable[[Params, jax.Array], jax.Array] | None = None
    memory: float = 0.95
    name: str = TARGET

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.exits[0][1].vocab_size

    @property
    def forwards(self) -> int:
        """One of some layers a draft, at most."""
        return self.depth

    @property
    def taps(self) -> tuple[int, ...]:
        """The exits, where what they would have said is counted."""
        return tuple(layers for layers, _ in self.exits) if self.read else ()

    def init(self, params: Params, request: Request, output: Output) -> ExitCounts | None:
        """Half of what each exit says is right, as weakly as two places say so."""
        if self.read is None:
            return None
        shape = (len(request.lengths), len(self.exits), 2)
        return ExitCounts(jnp.ones(shape, jnp.float32), jnp.zeros(shape, jnp.float32))

    def propose(
        self, params: Params, state: ExitCounts | None, context: Context
    ) -> tuple[DraftTree, jax.Array]:
        """Drafts with the exit of each row for as long as it is sure; also returns the rows' lengths."""
        rows, cache = context.rows, context.cache
        batch = len(rows.length)
        chosen, wanted = jnp.zeros((2, batch), jnp.int32)
        wanted, bar = wanted + self.depth, jnp.zeros(batch, jnp.float32)
        if state is not None:
            layers = jnp.array([layers for layers, _ in self.exits], jnp.int32)
            chosen, wanted, bar = state.choose(layers, self.layers, self.depth)

        def laws(tokens: jax.Array, depth: jax.Array, active: jax.Array) -> jax.Array:
            at = jnp.broadcast_to(depth, (batch, 1)).astype(jnp.int32)
            inputs = dataclasses.replace(Inputs.causal(tokens, rows.length - 1), at=at)
            logits = nothing = jnp.zeros((batch, 1, self.vocab_size), jnp.float32)
            for place, (_, model) in enumerate(self.exits):
                mine = active & (chosen == place)
                forward = lambda model=model: model(params, inputs, cache).logits
                found = jax.lax.cond(mine.any(), forward, lambda: nothing)
                logits = jnp.where(mine[:, None, None], found, logits)
            return logits

        def source(carry, depth: jax.Array, frontier: Frontier):
            tokens, before, active, drafted = carry
            tokens = jax.lax.dynamic_update_slice_in_dim(tokens, frontier.tokens, depth, axis=1)
            sure = jnp.take_along_axis(jax.nn.softmax(before[:, 0]), frontier.tokens, axis=1)[:, 0]
            active = active & (depth < wanted) & ((depth == 0) | (sure >= bar))
            logits = laws(tokens, depth, active)
            drafted = jax.lax.dynamic_update_slice_in_dim(drafted, active[:, None], depth, axis=1)
            return logits, (tokens, logits, active, drafted)

        start = (
            jnp.zeros((batch, self.depth), jnp.int32),
            jnp.zeros((batch, 1, self.vocab_size), jnp.float32),
            jnp.ones(batch, bool),
            jnp.zeros((batch, self.depth), bool),
        )
        tree, (_, _, _, drafted) = grow(chain(self.depth), None, context, source, start)
        return dataclasses.replace(tree, mask=tree.mask & drafted), rows.length

    def update(
        self, params: Params, state: ExitCounts | None, rows: Rows, result: StepResult
    ) -> ExitCounts | None:
        """Counts where each exit would have said what the target said, up to the first draft that failed."""
        if state is None or self.read is None:
            return state
        output, read = result.output, self.read
        right = jnp.argmax(output.logits, axis=-1)  # [B, T]
        places = jnp.arange(right.shape[1])
        seen = (places <= result.verdict.count[:, None]) & (
            places < (rows.length - result.proposal)[:, None]
        )

        def count(states: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = read(params, states)
            same = jnp.argmax(logits, axis=-1) == right
            sides = jnp.stack([seen & same, seen & ~same], axis=-1).astype(jnp.float32)
            sure = jax.nn.softmax(logits).max(-1)
            return sides.sum(1), (sides * sure[..., None]).sum(1)

        found = [count(states) for states in output.layer_states[-len(self.exits) :]]
        counts, sums = (jnp.stack(each, axis=1) for each in zip(*found, strict=True))
        memory = jnp.where(seen.any(1), self.memory, 1.0)[:, None, None]
        return ExitCounts(memory * state.counts + counts, memory * state.sums + sums)

    def rest(
        self, params: Params, state: ExitCounts | None, before: Rows, rows: Rows, result: StepResult
    ) -> ExitCounts | None:
        """Nothing is counted."""
        return state


def _whole(model: Model) -> int:
    """The layers of a network that can be cut.

    Raises:
      ValueError: if it cannot be.
    """
    early_exit(model, 1)
    return model.init_cache.config.layers  # type: ignore[attr-defined]


@typed
def layer_skip(model: Model, *, layers: int | None = None, length: int = 6) -> EarlyExits:
    """Drafts a chain with the first layers of the target, whose states go to its final norm and its head.

        x_d ~ head(norm(h_E(. | text, x_<d))),   d = 1, ..., D

    Keys and values of the committed text are the target's own: no second model, no second cache, nothing to read
    beforehand. A network that was trained for it drafts well; any other may.

    Args:
      model: the target, of `from_nnx` over a module that takes `layers=`, such as `Transformer`.
      layers: E, of which half if not given.
      length: D, at least 1.

    Raises:
      ValueError: if the model cannot be cut, has not so many layers, or `length < 1`.

    Exactness: that of the verifier.
    Source: LayerSkip, 2404.16710, without its training. There, verification starts from the drafts' states after layer
    E; here a forward begins with tokens, and computes these layers again.
    """
    check_sizes(length=length)
    whole = _whole(model)
    layers = max(whole // 2, 1) if layers is None else layers
    return EarlyExits(((layers, early_exit(model, layers)),), whole, length)


@typed
def dynamic_exit(
    model: Model,
    *,
    exits: Sequence[int] | None = None,
    length: int = 6,
    memory: float = 0.95,
) -> EarlyExits:
    """As `layer_skip`; exit and number of drafts are chosen row by row, by what every exit would have drafted.

        (E, g) = argmax of   (1 + a_E + ... + a_E^g) / (L + g E),   0 <= g <= D

    with a_E the share of places at which the states after layer E, which the target computes anyway, give the target's
    most probable token. After a draft that is less probable than the mean of how sure the exit was where it was right
    and where it was wrong, none follows. A row that expects nothing of any exit drafts nothing.

    Args:
      model: as for `layer_skip`, without learned positions.
      exits: numbers of layers; all below L if not given, 1 of a single layer.
      length: D, at least 1.
      memory: the weight of the counts of a step before, in (0, 1].

    Raises:
      ValueError: as `layer_skip`, and for no exit, one that is given twice, or another memory.

    Exactness: that of the verifier: what is drafted depends on steps before and on drafts that are judged.
    Source: DEL, 2504.05598. Counts start anew with each prompt, where it reads the last 32 places of the prompt; its
    code drafts up to 18 tokens whatever g is.
    """
    check_sizes(length=length)
    whole = _whole(model)
    exits = (
        tuple(range(1, max(whole, 2))) if exits is None else tuple(int(layers) for layers in exits)
    )
    if not exits or len(set(exits)) < len(exits):
        raise ValueError(f"exits must be different numbers of layers, at least one, got {exits}")
    if not 0 < memory <= 1:
        raise ValueError(f"memory must lie in (0, 1], got {memory}")
    cut = tuple((layers, early_exit(model, layers)) for layers in exits)
    return EarlyExits(cut, whole, length, readout(model), float(memory))
