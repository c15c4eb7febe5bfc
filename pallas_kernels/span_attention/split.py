"""Attention over keys that are split over the devices of a mesh axis.

Every form gives what one device with all keys would, up to float32 rounding; they differ in what travels:

| form | whole queries | a device's own share of them (`tokens_split`) |
|---|---|---|
| `gather` | partial results, once | all keys, once |
| `ring` | keys, around the ring; then the outputs, once | keys, around the ring |
| `bidirectional` | queries one way, partial results the other; then the outputs | the same without the outputs |

`gather` is for few queries over many keys (decoding), the rings for as many queries as keys (prompts, canvases): the
first moves keys, of which there may be few heads, the second queries and outputs, which may be shorter than a cache.

Legend: B rows, T queries, H query heads, K key-value heads, S keys of a device's part, D head width, n devices.

Source: 2105.13120 (Ring Self-Attention), 2412.20501 (TokenRing).
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from pallas_kernels.span_attention.blocks import FAR, NOBODY
from pallas_kernels.span_attention.parts import Keys, merge

Form = Literal["gather", "ring", "bidirectional"]

Result = tuple[jax.Array, jax.Array]

LATENCY = 2**18
"""Bytes that travel in about the time that a collective takes to begin: of so few, one collective beats two."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Split:
    """Keys of which each device along a mesh axis holds a part; attended to inside a `jax.shard_map` over that axis.

    Attributes:
      keys: the part of this device, `S` of the `n S` keys; as many on each.
      axis: name of the mesh axis; static.
      form: what travels, see the table above; static.
      turn: how many keys in a row one device holds before it is the next one's turn; static. Attention does not depend
        on it, `whole` does. S is a multiple of it.

    Raises:
      ValueError: for another form.
    """

    keys: Keys
    axis: str = dataclasses.field(metadata={"static": True})
    form: Form = dataclasses.field(default="gather", metadata={"static": True})
    turn: int = dataclasses.field(default=1, metadata={"static": True})

    def __post_init__(self):
        check_form(self.form)

    @property
    def positions(self) -> jax.Array | None:
        """Those of this device's keys, int32 `[B, S]`."""
        return self.keys.positions

    def with_shared(self, columns: jax.Array | None) -> "Split":
        """The same with other `shared_keys`, those of this device's keys."""
        return dataclasses.replace(self, keys=self.keys.with_shared(columns))

    def whole(self) -> Keys:
        """All `n S` keys in their order, on every device: for tests, and for caches of tokens."""
        return _by_slots(self.keys, lambda at: lambda x: in_turns(x, self.axis, self.turn, at))


def whole(part: Keys | Split) -> Keys:
    """All keys of a part, wherever they are; see `Split.whole`."""
    return part.whole() if isinstance(part, Split) else part


class Sharing(NamedTuple):
    """How new tokens are shared out: see `tokens_split`."""

    axis: str
    form: Form


@dataclasses.dataclass
class Asks:
    """How often a program, while it is traced, asks how tokens are shared out."""

    count: int = 0


_sharing: Any = jax.make_user_context(None)
_asks: contextvars.ContextVar[Asks | None] = contextvars.ContextVar("asks", default=None)


@contextlib.contextmanager
def tokens_split(axis: str, form: Form = "ring") -> Iterator[Asks]:
    """Within it, each device along a mesh axis has a share of the new tokens: of the queries, and of their keys.

    All parts of `span_attention` are then parts of this device, `Keys` too, and outputs are those of its own queries.
    The shares are of one size; which tokens are in which does not matter to attention. Whatever else mixes tokens has
    to ask `sharing`.

    Args:
      axis: of the enclosing `jax.shard_map`.
      form: what travels.

    Yields:
      A count of who asked: at 0, what was traced knows nothing of shares.

    Raises:
      ValueError: for another form.
    """
    check_form(form)
    asks = Asks()
    token = _asks.set(asks)
    try:
        with _sharing(Sharing(axis, form)):
            yield asks
    finally:
        _asks.reset(token)


def sharing() -> Sharing | None:
    """How new tokens are shared out here; None where every device has all of them."""
    asks = _asks.get()
    if asks is not None:
        asks.count += 1
    return _sharing.value


def whole_tokens(tree: Any) -> Any:
    """Arrays `[B, T, ...]` of all new tokens, from each device's share of them; as they are outside `tokens_split`.

    Shares stand one behind the other: the order is that of the sequence only where each device has consecutive tokens.
    """
    shared = sharing()
    if shared is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, shared.axis, axis=1, tiled=True), tree)


def check_form(form: str) -> None:
    """Raises `ValueError` for a form that there is not."""
    if form not in get_args(Form):
        raise ValueError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}")


def devices_along(axis: str) -> int:
    """Devices along a mesh axis.

    Raises:
      ValueError: outside of a `jax.shard_map` over it.
    """
    try:
        return jax.lax.axis_size(axis)
    except NameError:
        raise ValueError(
            f"keys are split over {axis!r}, which is not an axis of an enclosing jax.shard_map"
        ) from None


class Asked(NamedTuple):
    """The queries of a call, as `span_attention` takes them."""

    queries: jax.Array
    query_spans: jax.Array
    positions: jax.Array | None
    shared_queries: jax.Array | None


Local = Callable[[Asked, tuple[Keys, ...]], Result]
"""Attention on one device."""


def attend(local: Local, asked: Asked, parts: tuple[Keys | Split, ...]) -> Result:
    """Attention over parts some of which are split; parameters as `span_attention`.

    Args:
      local: attention over parts that are here.
      asked: the queries.
      parts: `Keys`, the same on every device (or, within `tokens_split`, shares), and `Split`.

    Raises:
      ValueError: if parts are split over several axes or in several forms.
    """
    shared = sharing()
    ways = {Sharing(part.axis, part.form) for part in parts if isinstance(part, Split)}
    if shared is not None:
        # How the new tokens travel holds for all of the call.
        ways = {shared, *(Sharing(way.axis, shared.form) for way in ways)}
    if len(ways) != 1:
        raise ValueError(
            f"parts must be split over one axis in one form, got {sorted(map(tuple, ways))}"
        )
    ((axis, form),) = ways
    here = tuple(part.keys for part in parts if isinstance(part, Split))
    everywhere = tuple(part for part in parts if isinstance(part, Keys))
    if shared is not None:
        here, everywhere = here + everywhere, ()
    if devices_along(axis) == 1:
        return local(asked, here + everywhere)
    rotate = _bidirectional if form == "bidirectional" else _ring
    if shared is not None:
        if form == "gather":
            return local(asked, tuple(_gathered(part, axis) for part in here))
        return rotate(local, asked, here, (), axis)
    if form == "gather":
        # What all devices hold counts once: the first one sees it.
        first = jax.lax.axis_index(axis) == 0
        once = tuple(
            part._replace(key_spans=jnp.where(first, part.key_spans, jnp.asarray(NOBODY)))
            for part in everywhere
        )
        return _merged(*local(asked, here + once), axis)
    length = asked.queries.shape[2]
    out, log_sum = rotate(local, _share(asked, axis), here, everywhere, axis)
    return jax.tree.map(
        lambda x: x[:, :, :length],
        _travel((out, log_sum), lambda x: jax.lax.all_gather(x, axis, axis=2, tiled=True)),
    )


def _merged(out: jax.Array, log_sum: jax.Array, axis: str) -> Result:
    """Results over all devices' keys from those over each device's own, on every device alike.

    Gathered and merged, or summed with the weights of their log-sum-exps. A device receives n - 1 partial results in
    the first case, and in the second float32 sums about twice and a maximum before: two collectives, of fewer bytes
    from some n on.
    """
    devices, width = devices_along(axis), out.shape[-1]
    gathered = (devices - 1) * log_sum.size * (width * out.dtype.itemsize + 4)
    summed = 2 * (devices - 1) * log_sum.size * (4 * width + 8) // devices
    if gathered <= max(summed, LATENCY):
        outs, log_sums = _travel((out, log_sum), lambda x: jax.lax.all_gather(x, axis))
        return merge(list(zip(outs, log_sums, strict=True)))
    top = jax.lax.pmax(jax.lax.stop_gradient(log_sum), axis)
    top = jnp.where(top == -jnp.inf, 0.0, top)
    weight = jnp.exp(log_sum - top)[..., None]
    both = jnp.concatenate([weight * out.astype(jnp.float32), weight], axis=-1)
    both = jax.lax.psum(both, axis)
    mixed, total = both[..., :-1], both[..., -1]
    some = total != 0
    safe = jnp.where(some, total, 1.0)
    mixed = (mixed / safe[..., None]).astype(out.dtype)
    return mixed, jnp.where(some, jnp.log(safe) + top, -jnp.inf)


def _ring(local: Local, asked: Asked, here: Any, everywhere: Any, axis: str) -> Result:
    """Keys go around the ring, each device attends with its own queries to those that it holds."""
    devices = devices_along(axis)
    onward = _shift(devices, 1)
    shape = asked.queries.shape
    nothing = jnp.zeros(shape, jnp.float32), jnp.full(shape[:3], -jnp.inf, jnp.float32)

    def step(_: jax.Array, state: Any) -> Any:
        held, result = state
        coming = jax.lax.ppermute(held, axis, onward)  # while this device computes
        return coming, merge([result, local(asked, held)])

    last, result = jax.lax.fori_loop(0, devices - 1, step, (here, nothing))
    out, log_sum = merge([result, local(asked, last + everywhere)])
    return out.astype(asked.queries.dtype), log_sum


def _bidirectional(local: Local, asked: Asked, here: Any, everywhere: Any, axis: str) -> Result:
    """Queries go around the ring while what was found for them goes straight back to their owner, the other way."""
    devices = devices_along(axis)
    visitors, back, results = asked, None, []
    for step in range(devices):
        coming = visitors
        if step < devices - 1:
            coming = jax.lax.ppermute(visitors, axis, _shift(devices, 1))
        if back is not None:
            results.append(_return(back, axis, step - 1))
        if step == 0:
            results.append(local(visitors, here + everywhere))
        else:
            back = local(visitors, here)
        visitors = coming
    results.append(_return(back, axis, devices - 1))
    out, log_sum = merge([(out.astype(jnp.float32), log_sum) for out, log_sum in results])
    return out.astype(asked.queries.dtype), log_sum


def _return(result: Any, axis: str, steps: int) -> Any:
    """A partial result at the device that many steps before."""
    moves = _shift(devices_along(axis), -steps)
    return _travel(result, lambda x: jax.lax.ppermute(x, axis, moves))


def _travel(result: Result, move: Callable[[jax.Array], jax.Array]) -> Result:
    """Moves a result: as one array where outputs are float32 as log-sum-exps are."""
    out, log_sum = result
    if out.dtype != jnp.float32:
        return move(out), move(log_sum)
    both = move(jnp.concatenate([out, log_sum[..., None]], axis=-1))
    return both[..., :-1], both[..., -1]


def _shift(devices: int, steps: int) -> list[tuple[int, int]]:
    return [(i, (i + steps) % devices) for i in range(devices)]


def _share(asked: Asked, axis: str) -> Asked:
    """This device's share of the queries, which are filled up to one size a device."""
    devices = devices_along(axis)
    size = -(-asked.queries.shape[2] // devices)

    def take(x: jax.Array | None, at: int, fill: Any = 0) -> Any:
        if x is None:
            return None
        extra = list(x.shape)
        extra[at] = size * devices - x.shape[at]
        x = jnp.concatenate([x, jnp.broadcast_to(jnp.asarray(fill, x.dtype), extra)], axis=at)
        start = jax.lax.axis_index(axis).astype(jnp.int32) * size
        return jax.lax.dynamic_slice_in_dim(x, start, size, axis=at)

    return Asked(
        take(asked.queries, 2),
        take(asked.query_spans, 1, (-FAR, FAR)),  # sees nothing
        take(asked.positions, 1),
        take(asked.shared_queries, 2),
    )


def _gathered(part: Keys, axis: str) -> Keys:
    """All devices' keys, in any order."""
    return _by_slots(part, lambda at: lambda x: jax.lax.all_gather(x, axis, axis=at, tiled=True))


def _by_slots(part: Keys, change: Callable[[int], Callable[[jax.Array], jax.Array]]) -> Keys:
    """Each array changed along its axis of keys."""
    at = lambda x, axis: None if x is None else change(axis)(x)
    return Keys(
        change(2)(part.keys),
        change(2)(part.values),
        change(1)(part.key_spans),
        at(part.positions, 1),
        at(part.bias, 1),
        at(part.shared_keys, 1),
    )


def own_turns(x: jax.Array, axis: str, turn: int) -> jax.Array:
    """This device's share of what all have: `[B, T / n, ...]` of `[B, T, ...]`, in turns of `turn` along T."""
    devices = devices_along(axis)
    x = x.reshape(x.shape[0], -1, devices, turn, *x.shape[2:])
    device = jax.lax.axis_index(axis).astype(jnp.int32)
    x = jax.lax.dynamic_index_in_dim(x, device, axis=2, keepdims=False)
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def in_turns(x: jax.Array, axis: str, turn: int, at: int = 1) -> jax.Array:
    """All devices' shares, in their order, on every device: the inverse of `own_turns`, by one all-gather.

    Args:
      x: `[..., T / n, ...]`, the share of this device.
      axis: name of the mesh axis.
      turn: places in a row on one device.
      at: the axis of the array that T is.
    """
    x = jax.lax.all_gather(x, axis, axis=at)
    devices, places = x.shape[at : at + 2]
    before, after = x.shape[:at], x.shape[at + 2 :]
    x = x.reshape(*before, devices, places // turn, turn, *after).swapaxes(at, at + 1)
    return x.reshape(*before, devices * places, *after)
