"""VocabTrim: drafting among the tokens that are worth it.

Legend: V vocabulary, k tokens that are kept.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdec.arguments import typed
from jaxdec.model import Inputs, Output, Params
from jaxdec.speculative.drafters.eagle import EagleDrafter
from jaxdec.speculative.drafters.heads import HeadDrafter
from jaxdec.speculative.drafters.model import ModelDrafter
from jaxdec.speculative.tree import check_sizes

D = TypeVar("D", ModelDrafter, EagleDrafter, HeadDrafter)
HEAD = "lm_head"


@dataclasses.dataclass(frozen=True)
class _Trimmed:
    """What gives laws, which give nothing to tokens that are not kept; the logits of these are computed alone.

    Attributes:
      call: `(params, ...)`, a forward or the law of heads.
      keep: rising.
      vocab_size: V.
      tied: whether the output matrix is the transposed embedding.
    """

    call: Callable[..., Any]
    keep: tuple[int, ...]
    vocab_size: int
    tied: bool = False

    def logits(self, narrow: jax.Array) -> jax.Array:
        """Logits `[..., V]` of `[..., k]`, or of such of all tokens."""
        kept = np.zeros(self.vocab_size, bool)
        kept[list(self.keep)] = True
        if narrow.shape[-1] == self.vocab_size:
            return jnp.where(kept, narrow, -jnp.inf)
        places = np.maximum(np.cumsum(kept) - 1, 0)
        return jnp.where(kept, narrow[..., places], -jnp.inf)


class _Forward(_Trimmed):
    def __call__(self, params: Params, inputs: Inputs, cache: Any = None) -> Output:
        narrow = trimmed_params(params, self.keep, self.vocab_size)
        output = self.call(narrow, inputs, cache)
        logits = output.logits
        if self.tied:  # the compiler drops the product with the whole embedding, which nobody reads
            rows = params["embed_tokens"]["embedding"][np.array(self.keep)]
            logits = jnp.dot(output.hidden, rows.T, preferred_element_type=jnp.float32)
        return dataclasses.replace(output, logits=self.logits(logits))


class _Law(_Trimmed):
    def __call__(self, params: Params, hidden: jax.Array, path: jax.Array) -> jax.Array:
        narrow = trimmed_params(params, self.keep, self.vocab_size)
        return self.logits(self.call(narrow, hidden, path))


def trimmed_params(params: Params, keep: Iterable[int], vocab_size: int) -> Params:
    """Parameters with narrow output matrices: the k columns of every `lm_head`; others stay.

    `trimmed` takes either kind. Narrow ones, made once, save the memory, and a copy of the matrix in each forward.

    Args:
      params: a nested dict; a matrix that is narrow already stays as it is.
      keep: tokens.
      vocab_size: V.
    """
    kept = np.array(sorted({int(token) for token in keep}))

    def narrow(tree: Any) -> Any:
        if not isinstance(tree, Mapping):
            return tree
        return {name: cut(part) if name == HEAD else narrow(part) for name, part in tree.items()}

    def cut(head: Any) -> Any:
        whole = lambda x: x.shape[-1] == vocab_size
        return jax.tree.map(lambda x: x[..., kept] if whole(x) else x, head)

    return narrow(params)


@typed
def trimmed(drafter: D, keep: Iterable[int]) -> D:
    """The same drafter, which never proposes a token that is not kept.

        q'(v) = q(v) / sum of q over the tokens kept,   0 for all others;   logits h U_k,   U_k the k columns of U

    The law that it states is the one that it draws from, so nothing changes in what the target emits: tokens that are
    not kept come from the target alone. Keep what ends a sequence, and the marks of a format.

    Args:
      drafter: drafts with a model, with heads, or with a network that reads features.
      keep: k different tokens, for instance those of `frequent_tokens`.

    Raises:
      ValueError: if nothing is kept, a token is outside of the vocabulary, or the drafter is of another kind.

    Exactness: that of the verifier.
    Source: 2506.22694. Products with output matrices have k columns, where these are called `lm_head`
    (`trimmed_params`) or are the embedding of a `Transformer`, transposed, without bias, scale or cap. Of all others
    V logits are computed and V - k of them dropped.
    """
    if not isinstance(drafter, ModelDrafter | EagleDrafter | HeadDrafter):
        raise ValueError(
            f"trimmed takes a drafter with a model, heads or features, got {type(drafter).__name__}"
        )
    kept = tuple(sorted({int(token) for token in keep}))
    size = drafter.vocab_size
    if not kept:
        raise ValueError("keep must name at least 1 token, got none")
    for token in (kept[0], kept[-1]):
        if not 0 <= token < size:
            raise ValueError(f"keep names token {token}, outside of a vocabulary of {size}")
    if isinstance(drafter, HeadDrafter):
        law = _Law(drafter.heads.law, kept, size)
        return dataclasses.replace(drafter, heads=dataclasses.replace(drafter.heads, law=law))
    forward = _Forward(drafter.model.forward, kept, size, _plainly_tied(drafter.model))
    return dataclasses.replace(drafter, model=dataclasses.replace(drafter.model, forward=forward))


def _plainly_tied(model: Any) -> bool:
    """Whether logits are the last states times the transposed embedding, and nothing else."""
    identity = getattr(model.forward, "identity", None)
    if not isinstance(identity, tuple) or getattr(identity[0], "__name__", "") != "Transformer":
        return False
    config = identity[1]
    plain = not config.head_bias and config.logit_scale == 1.0 and config.logit_softcap is None
    return config.tied and plain


def frequent_tokens(
    texts: Iterable[ArrayLike], size: int, always: Sequence[int] = ()
) -> tuple[int, ...]:
    """The most frequent tokens of some texts; the best texts are the target's own.

    Args:
      texts: of token ids, each of any shape.
      size: k, tokens wanted; fewer if the texts have fewer.
      always: tokens that are among them however rare.

    Raises:
      ValueError: if `size` is less than 1 or than the tokens of `always`.
    """
    check_sizes(size=size)
    always = tuple(dict.fromkeys(int(token) for token in always))
    if len(always) > size:
        raise ValueError(f"size must hold the {len(always)} tokens of always, got {size}")
    counts = np.zeros(0, np.int64)
    for text in texts:
        more = np.bincount(np.asarray(text).reshape(-1))
        longer = max(len(counts), len(more))
        counts = np.pad(counts, (0, longer - len(counts))) + np.pad(more, (0, longer - len(more)))
    order = [int(token) for token in np.argsort(-counts, kind="stable") if counts[token] > 0]
    return tuple(dict.fromkeys([*always, *order]))[:size]
