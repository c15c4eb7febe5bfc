"""Prompts are read into a fresh cache: at once, or in chunks between the steps of rows that run already.

Legend: B rows, P prompt width, C tokens of a chunk, D width of states.
"""

import dataclasses
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.cache import Cache
from jaxdec.decoding.in_place import after
from jaxdec.decoding.moving import by_row
from jaxdec.decoding.request import Request
from jaxdec.decoding.rows import place_chunk
from jaxdec.model import Inputs, Model, Order, Output, Params, prompt_inputs, score
from jaxdec.parallel import SEQUENCE, SplitCaches, read_shares

Tree = TypeVar("Tree")


def prefill(model: Model, params: Params, request: Request) -> Any:
    """Reads prompts into a fresh cache, whatever the target has read; the last token of each prompt stays pending.

    Returns:
      A cache of `request.capacity` slots whose rows hold `lengths - 1` tokens.
    """
    return read_prompts(model, params, dataclasses.replace(request, read=None))[0]


def read_prompts(model: Model, params: Params, request: Request) -> tuple[Any, Output]:
    """As `prefill`, and the output over the prompts `[B, P]`, for those who draft from it.

    A prompt is read once, whatever the number of its hypotheses; the output's entries are of the prompts alone,
    and where slots are split over devices, of each device's share of them. A request whose prompts were read already
    (`Request.read`) is not read again; its output holds states alone.
    """
    if request.read is not None:
        return request.read.cache, request.read.output
    cache, output = _read(model, params, by_prompt(request, request.hypotheses))
    seen = output.logits, output.hidden, output.layer_states
    logits, hidden, layer_states = spread(seen, request.hypotheses)
    return spread(cache, request.hypotheses), dataclasses.replace(
        output, logits=logits, hidden=hidden, layer_states=layer_states
    )


def by_prompt(tree: Any, hypotheses: int) -> Any:
    """The first row of each prompt: of a request, or of arrays `[B, ...]`."""
    if hypotheses == 1:
        return tree
    first = by_row(tree, lambda x: x[::hypotheses], lambda stops: stops)
    return dataclasses.replace(first, hypotheses=1) if isinstance(first, Request) else first


def spread(tree: Tree, hypotheses: int) -> Tree:
    """What was found of each prompt, caches and arrays `[B / H, ...]`, in each of its rows."""
    if hypotheses == 1:
        return tree

    def to_rows(node):
        if isinstance(node, Cache):
            prompts = node.length.shape[0]
            return node.rows(jnp.repeat(jnp.arange(prompts, dtype=jnp.int32), hypotheses))
        return jnp.repeat(node, hypotheses, axis=0)

    return jax.tree.map(to_rows, tree, is_leaf=lambda node: isinstance(node, Cache))


def _read(model: Model, params: Params, request: Request) -> tuple[Any, Output]:
    batch, width = request.prompt.shape
    order = request.order
    inputs = prompt_inputs(request.prompt, request.lengths, order)
    if order is not None:
        inputs = dataclasses.replace(inputs, positions=order.at(inputs.positions))
    index = jnp.broadcast_to(jnp.arange(width), (batch, width))
    cache, count = request.new_cache(model), request.lengths - 1
    key_spans = visibility.causal(index).key_spans
    if isinstance(request.cache, SplitCaches):
        form = request.cache.prompts
        shared = read_shares(model, params, inputs, cache, count, key_spans, SEQUENCE, form)
        if shared is not None:
            return shared
    output = model(params, inputs, None)
    return cache.commit(output.entries, index, count, key_spans), output


def read_on(
    model: Model,
    params: Params,
    cache: Any,
    tokens: jax.Array,
    count: jax.Array,
    *,
    order: Order | None = None,
    at: jax.Array | None = None,
) -> tuple[Any, Output]:
    """Reads the next tokens of each row into a cache; they see what it holds, and each other.

    Args:
      model: any that predicts next tokens, or answers queries for an order.
      params: its own.
      cache: of what was read before; it has room for all C tokens in rows that read any.
      tokens: int32 `[B, C]`, those that follow.
      count: int32 `[B]`, how many of them there are.
      order: of generation, tokens in ranks; None for causal decoding.
      at: as for `jaxdec.model.score`.

    Returns:
      The cache, and the output over the tokens.
    """
    ahead = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
    inputs = Inputs.causal(tokens, cache.length, valid=ahead < count[:, None])
    output = score(model, params, inputs, cache, order, at=at)
    # The forward reads the cache before it is written.
    count = after(count, output.hidden)
    key_spans = visibility.causal(inputs.positions).key_spans
    return cache.commit(output.entries, ahead, count, key_spans), output


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reading:
    """What a target has read of some prompts so far.

    Attributes:
      cache: of the tokens that were read.
      hidden: `[B, P, D]`, states after the tokens that were read; arbitrary elsewhere.
      layer_states: of the same shape, after the layers that the model was asked for.
    """

    cache: Any
    hidden: jax.Array
    layer_states: tuple[jax.Array, ...]

    @property
    def done(self) -> jax.Array:
        """Tokens that were read, int32 `[B]`."""
        return self.cache.length

    @property
    def output(self) -> Output:
        """The states, for those who draft from them; there are neither logits nor entries."""
        nothing = jnp.zeros((*self.hidden.shape[:1], 0, 0), jnp.float32)
        return Output(nothing, self.hidden, self.layer_states, cast(Any, None))

    @classmethod
    def start(cls, model: Model, params: Params, request: Request, chunk: int) -> "Reading":
        """Nothing was read yet."""
        batch, width = request.prompt.shape
        cache = request.new_cache(model)
        tokens = jnp.zeros((batch, chunk), jnp.int32)
        like = jax.eval_shape(lambda: model(params, Inputs.causal(tokens), cache))
        empty = lambda x: jnp.zeros((batch, width, *x.shape[2:]), x.dtype)
        return cls(cache, empty(like.hidden), tuple(map(empty, like.layer_states)))

    def read(
        self, model: Model, params: Params, tokens: jax.Array, end: jax.Array, chunk: int
    ) -> "Reading":
        """Reads the next tokens of each prompt, those before `end`.

        Tokens see what was read before and each other; logits are nobody's business, and are not computed.

        Args:
          model: the target.
          params: its own.
          tokens: int32 `[B, P]`, the prompts.
          end: int32 `[B]`, tokens to be read in all; a prompt's last token stays pending.
          chunk: C; the cache has room for as many after the last prompt token.
        """
        done = self.done
        places = done[:, None] + jnp.arange(chunk)
        window = jnp.take_along_axis(tokens, places, axis=1, mode="fill", fill_value=0)
        count = jnp.clip(end - done, 0, chunk)
        cache, output = read_on(model, params, self.cache, window, count)
        put = lambda old, new: place_chunk(old, new, done, count)
        return Reading(
            cache,
            put(self.hidden, output.hidden),
            tuple(map(put, self.layer_states, output.layer_states)),
        )
