"""VocabTrim: drafting among the tokens that are worth it.

Legend: V vocabulary, k tokens that are kept.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdec.arguments import typed
from jaxdec.model import Inputs, Output, Params
from jaxdec.speculative.drafters.model import ModelDrafter
from jaxdec.speculative.tree import check_sizes


@dataclasses.dataclass(frozen=True)
class _Trimmed:
    """A forward whose laws give nothing to tokens that are not kept."""

    forward: Callable[..., Output]
    keep: tuple[int, ...]

    def __call__(self, params: Params, inputs: Inputs, cache: Any = None) -> Output:
        output = self.forward(params, inputs, cache)
        kept = np.zeros(output.logits.shape[-1], bool)
        kept[list(self.keep)] = True
        return dataclasses.replace(output, logits=jnp.where(kept, output.logits, -jnp.inf))


@typed
def trimmed(drafter: ModelDrafter, keep: Iterable[int]) -> ModelDrafter:
    """The same drafter, which never proposes a token that is not kept.

        q'(v) = q(v) / sum of q over the tokens kept,   0 for all others

    The law that it states is the one that it draws from, so nothing changes in what the target emits: tokens that are
    not kept come from the target alone. Keep what ends a sequence, and the marks of a format.

    Args:
      drafter: drafts with a model.
      keep: k different tokens, for instance those of `frequent_tokens`.

    Raises:
      ValueError: if nothing is kept, or a token is outside of the vocabulary.

    Exactness: that of the verifier.
    Source: 2506.22694. Only the law is edited here: all V logits are computed and V - k of them dropped. With a
    vocabulary of bytes that is all there is to do; to save time on a large one, multiply by the k rows of the head.
    """
    kept = tuple(sorted({int(token) for token in keep}))
    size = drafter.model.vocab_size
    if not kept:
        raise ValueError("keep must name at least 1 token, got none")
    for token in (kept[0], kept[-1]):
        if not 0 <= token < size:
            raise ValueError(f"keep names token {token}, outside of a vocabulary of {size}")
    forward = _Trimmed(drafter.model.forward, kept)
    return dataclasses.replace(drafter, model=dataclasses.replace(drafter.model, forward=forward))


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
