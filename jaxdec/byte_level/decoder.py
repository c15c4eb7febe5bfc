"""Decoding byte by byte.

Legend: B rows, n bytes of a text, M members.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdec.byte_level.member import Member, MemberState, longest
from jaxdec.byte_level.tokens import END, SYMBOLS
from jaxdec.cache import Cache
from jaxdec.decoding import Exactness, Info, Request, Rows, Settings
from jaxdec.model import Inputs, Model, Output, Params
from jaxdec.sampling import top_tokens


@dataclasses.dataclass(frozen=True)
class _Bytes:
    """The forward of a model of bytes that only its decoder can run: it states types and gives no laws."""

    forward: Callable[..., Output]

    def __call__(self, params: Params, inputs: Inputs, cache: Cache | None = None) -> Output:
        output = self.forward(params, inputs, cache)
        shape = (*output.logits.shape[:2], SYMBOLS)
        return dataclasses.replace(output, logits=jnp.full(shape, jnp.nan, jnp.float32))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ByteState:
    """What a step reads.

    Attributes:
      rows: committed symbols.
      settings: the request's settings.
      members: how far each has read: all but the last byte.
    """

    rows: Rows
    settings: Settings
    members: tuple[MemberState, ...]


@dataclasses.dataclass(frozen=True)
class ByteLevel:
    """See `byte_level`."""

    members: tuple[Member, ...]
    width: int = 1
    exactness: Exactness = Exactness.DISTRIBUTION_IDENTICAL

    @property
    def model(self) -> Model:
        """What requests are checked against: a model of 256 bytes and the end."""
        first = self.members[0].model
        limits = [limit for one in self.members if (limit := longest(one.model)) is not None]
        return Model(
            _Bytes(first.forward),
            first.init_cache,
            SYMBOLS,
            max_length=min(limits, default=None),
            eos=(END,),
        )

    @property
    def parts(self) -> tuple[Member, ...]:
        """The members."""
        return self.members

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for an order of generation, or what a member cannot serve."""
        if request.order is not None:
            raise ValueError("bytes are decoded from left to right, but the request has an order")
        for member in self.members:
            member.check(request, params)

    def init(self, params: Params, request: Request) -> ByteState:
        """Reads the prompts."""
        members = tuple(member.init(params, request) for member in self.members)
        return ByteState(Rows.start(request, SYMBOLS), request.settings, members)

    def step(self, params: Params, state: ByteState, rng: jax.Array) -> tuple[ByteState, Info]:
        """Reads the pending byte of each row with every member, and draws the next one."""
        rows, settings = state.rows, state.settings
        ran = rows.running
        pairs = list(zip(self.members, state.members, strict=True))
        states = tuple(one.read(params, own, rows.pending, ran) for one, own in pairs)
        laws = jnp.stack(
            [one.law(params, own) for one, own in zip(self.members, states, strict=True)]
        )
        logits = jax.nn.logsumexp(laws, axis=0) - jnp.log(jnp.float32(len(states)))
        logits = logits.astype(jnp.float32)
        law = settings.warp.log_probs(logits, rows.history)
        noise = settings.warp.token_noise(rng, rows.length, SYMBOLS)
        token = settings.warp.draw(law, noise)[:, None]
        log_probs = jnp.take_along_axis(law, token, axis=-1)
        raw_log_probs = jnp.take_along_axis(logits, token, axis=-1)
        raw_log_probs -= jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        caches = [own.cache for own in state.members]
        room = jnp.stack([cache.capacity - cache.length for cache in caches]).min(0)
        rows, count = rows.advance(
            settings, token, jnp.ones_like(rows.length), jnp.isfinite(log_probs), room=room
        )
        forwards = ran.astype(jnp.int32) * len(self.members)
        info = Info.undrafted(
            tokens=token,
            start=rows.length - count,
            count=count,
            log_probs=log_probs,
            raw_log_probs=raw_log_probs,
            target_forwards=forwards,
            target_rows=forwards,
            status=rows.status,
            steps=jnp.broadcast_to(state.rows.rounds[:, None], token.shape),
            top=top_tokens(logits[:, None], rows.top_log_probs),
        )
        return ByteState(rows, settings, states), info


def byte_level(*members: Member) -> ByteLevel:
    """Decodes bytes with the exact laws that models of tokens give them.

        P(x_{n+1} = b | x_1 ... x_n) = (1 / M) sum_m P_m(x_1 ... x_n b) / P_m(x_1 ... x_n)

    with P_m the law of texts under member m: the sum over all encodings that cover them (`covers`). A prompt may end
    anywhere, inside a token too: no choice of its encoding is made. Symbols are the bytes 0 to 255 and `END`, 256;
    prompts hold bytes, and all settings of `Warp` act on symbols. Members may have different vocabularies.

    A byte costs one forward of one token of each member, and a prompt of n bytes n of them and one of the start.
    Parameters hold a model's own under `Member.weights` and its tables, `byte_tokens(...)`, under `Member.name`:

        params = {"target": weights, "bytes": byte_level.byte_tokens(tokenizer)}

    The law of the tokens is the model's, without those that cannot be the encoding of any text, and renormalised. The
    sum of `raw_log_probs` is the log-probability of what was generated; that of all that member m has read is
    `state.members[m].covers.log_prob`.

    Args:
      *members: at least one, the first with the target's weights; see `member`.

    Raises:
      ValueError: for no members, something else, or a first one of other weights.

    Exactness: distribution-identical to texts of tokens, at temperature 1 without filters, where tables know pairs
    or merges; without them (`pairs=False`) a text may be counted twice, by as much as a model gives to encodings that
    are none.
    Source: Phan et al., 2410.09303.
    Memory: L V numbers and L S bits a row for tokens of up to L bytes, beside a slot of the cache a byte.
    """
    for one in members:
        if not isinstance(one, Member):
            raise ValueError(
                f"members: got {type(one).__name__}, must be made by byte_level.member"
            )
    if not members:
        raise ValueError("members: got none, must be at least 1")
    if members[0].weights != "target":
        raise ValueError(
            f"members: the first has the weights {members[0].weights!r}, must be 'target'"
        )
    return ByteLevel(members)
