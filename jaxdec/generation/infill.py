"""One call from a sequence with gaps to a filled one: checks, buckets, and the result by position."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.any_subset import fixed_order, lattice
from jaxdec.decoding import Decoder, Record, Request, Rows, Stats, Status, check_decoder, decode
from jaxdec.generation.prepare import prepare
from jaxdec.model import Params
from jaxdec.parallel import Placement
from jaxdec.sampling import TopTokens, as_array, is_traced


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Infilled:
    """What `infill` returns: a pytree of arrays on the device, everything by position in the sequence.

    Attributes:
      tokens: int32 `[B, L]`, visible and generated tokens; zeros past `sizes` and where a row ended early.
      known: bool `[B, L]`, which positions are filled.
      ranks: int32 `[B, L]`, when each position was generated, visible ones first; -1 past `sizes`.
      log_probs: float32 `[B, L]` of each generated token under the law that it was drawn from; zero elsewhere, and
        wherever the temperature is 0.
      raw_log_probs: float32 `[B, L]` under the model's unwarped law.
      drafted: bool `[B, L]`, whether a drafter proposed the token.
      steps: int32 `[B, L]`, the step of the row in which each token was generated; -1 elsewhere.
      sizes: int32 `[B]`.
      stats: counts a row.
      codes: int32 `[B]`, a `Status` a row: `LENGTH` where all gaps are filled.
      top: the K most probable tokens of the model's unwarped law of each generated token, `tokens` int32 and
        `log_probs` float32 `[B, L, K]`, zeros elsewhere; None where none were asked for (`top_log_probs`).
    """

    tokens: jax.Array
    known: jax.Array
    ranks: jax.Array
    log_probs: jax.Array
    raw_log_probs: jax.Array
    drafted: jax.Array
    steps: jax.Array
    sizes: jax.Array
    stats: Stats
    codes: jax.Array
    top: TopTokens | None = None

    @property
    def status(self) -> list[Status]:
        """Why each row ended."""
        return [Status(int(code)) for code in np.asarray(self.codes)]


def prepare_infill(
    decoder: Decoder,
    params: Params,
    tokens: jax.Array | np.ndarray,
    visible: jax.Array | np.ndarray,
    *,
    sizes: Any = None,
    ranks: Any = None,
    **knobs: Any,
) -> Request:
    """Checks the arguments of `infill` and pads them to buckets; see there.

    Raises:
      ValueError: naming the value and the limit.
    """
    check_decoder(decoder)
    tokens = as_array("tokens", tokens, "integers [B, L], in rows of equal length")
    visible = as_array("visible", visible, "bool [B, L]")
    if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(
            f"tokens must be integers of shape [B, L], got {tokens.dtype} {list(tokens.shape)}"
        )
    shape = visible.shape
    if shape != tokens.shape:
        raise ValueError(
            f"visible must have the shape {list(tokens.shape)} of tokens, got {list(shape)}"
        )
    order = lattice(visible, sizes) if ranks is None else fixed_order(ranks, visible, sizes)
    shown, gaps = order.visible, order.size - order.visible
    width = most = tokens.shape[1]  # of prompts and gaps, where only bounds on them are known
    if not is_traced(order):
        longest, held = decoder.model.max_length, int(order.size.max())
        if longest is not None and held > longest:
            raise ValueError(f"a row has {held} positions; the model's capacity is {longest}")
        width, most = int(shown.max()), int(gaps.max())
    xp = jnp if is_traced((tokens, order)) else np
    prompt = xp.take_along_axis(tokens, order.places, axis=1)[:, :width]
    prompt = xp.where(np.arange(width) < shown[:, None], prompt, 0)
    return prepare(
        decoder,
        params,
        prompt,
        lengths=shown,
        max_new_tokens=gaps,
        most_new_tokens=most,
        order=order,
        **{"eos": (), **knobs},
    )


def infill(
    decoder: Decoder,
    params: Params,
    tokens: jax.Array | np.ndarray,
    visible: jax.Array | np.ndarray,
    *,
    rng: jax.Array | int,
    sizes: Any = None,
    ranks: Any = None,
    placement: Placement | None = None,
    **knobs: Any,
) -> Infilled:
    """Fills every masked position of a batch of sequences, given all visible ones. Works inside `jit` and `vmap`.

    The joint law is that of the model along the order: `p(x_masked | x_visible) = prod_r p(x_r | x_{<r})`. Decoders
    that are token-identical give the tokens of `autoregressive(model)` with the same key.

    Args:
      decoder: over a model that answers queries, such as `any_subset.assd(model)`, or `autoregressive(model)`.
      params: parameters by part name: `{"target": ...}`, and those of further parts (`"draft"`).
      tokens: int `[B, L]`; what stands at masked positions is not read.
      visible: bool `[B, L]`; each row has at least one visible and one masked position.
      rng: one key or integer seed (row b then uses `fold_in(rng, b)`), one key a row `[B]`, or one seed a row.
      sizes: int `[B]`, positions of each row; all L if not given.
      ranks: int `[B, L]`, an order of the caller's own, visible positions first; the lattice order (masked positions
        from left to right) if not given.
      placement: a mesh of devices, and what lies on which; see `generate`.
      **knobs: settings of `jaxdec.sampling.Warp`: `temperature`, `top_p`, `banned`, ...; and `eos`, `stop`,
        `stop_strings`, `tokenizer`, `cache`, `hypotheses`, `top_log_probs` as in `generate`; stops are looked for by
        rank.

    Raises:
      ValueError: for impossible arguments, before anything is traced, naming the value and the limit.
    """
    request = prepare_infill(decoder, params, tokens, visible, sizes=sizes, ranks=ranks, **knobs)
    state, record = decode(decoder, params, request, rng, placement)
    found = infilled(state.rows, record, np.shape(tokens)[1])
    batch = request.prompt.shape[0]
    return found if len(found.codes) == batch else jax.tree.map(lambda x: x[:batch], found)


@functools.partial(jax.jit, static_argnums=2)
def infilled(rows: Rows, record: Record, length: int) -> Infilled:
    """Lays out rows and their record by position, `length` positions a row."""
    order = rows.order
    assert order is not None
    ranks = jnp.arange(rows.tokens.shape[1], dtype=jnp.int32)
    at = jnp.where(ranks < order.size[:, None], order.places, length)

    def by_place(values, fill=0):
        values = jnp.broadcast_to(values, (*at.shape, *values.shape[2:]))
        put = lambda at, x: (
            jnp.full((length, *x.shape[1:]), fill, x.dtype).at[at].set(x, mode="drop")
        )
        return jax.vmap(put)(at, values)

    return Infilled(
        tokens=by_place(rows.tokens),
        known=by_place(ranks < rows.length[:, None]),
        ranks=by_place(ranks, -1),
        log_probs=by_place(record.log_probs),
        raw_log_probs=by_place(record.raw_log_probs),
        drafted=by_place(record.drafted),
        steps=by_place(record.steps, -1),
        sizes=order.size,
        stats=record.stats,
        codes=rows.status,
        top=jax.tree.map(by_place, record.top),
    )
