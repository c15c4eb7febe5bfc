"""What is left of a target's law in the memory of a TPU while the drafts after one token are tested, one by one.

Legend: V vocabulary.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from pallas_kernels.noise import gumbel
from pallas_kernels.verify.tpu_row import Law, Row, pick, total


class Remainder:
    """The residual law: the target's, from which the law of each draft that failed is taken.

    Attributes:
      row: the target's logits.
      left: float32 `[8, lanes]` in VMEM, probabilities; as `Row.at` lies.
      drawn: float32 `[8, lanes]`, log-probabilities of the law that a draft was drawn from; None for drafts that were
        chosen, whose law is one-hot.
    """

    def __init__(self, row: Row, left, drawn):
        self.row, self.left, self.drawn = row, left, drawn

    def begin(self, law: Law) -> None:
        """Starts with the whole law: all on the best token for a greedy row."""
        row = self.row
        best = jax.lax.cond(
            row.greedy,
            lambda: row.argmax(lambda *block: row.logits(*block)[1])[0, 0],
            lambda: -1,
        )

        def store(_, here, tokens):
            p = jnp.exp(row.log_probs(here, tokens, law))
            p = jnp.where(row.greedy, jnp.where(tokens == best, 1.0, 0.0), p)
            self.left[:, here] = jnp.where(law.broken, jnp.nan, p)
            return _

        row.blocks(store, 0)

    def test(self, token, threshold):
        """Whether a draft passes, `u q(x) < p(x)` with p what is left: 1 or 0. If not, `max(p - q, 0)` is left."""
        row, left, drawn = self.row, self.left, self.drawn
        if drawn is not None:
            threshold *= jnp.exp(pick(drawn, token))
        passed = jnp.where(threshold < pick(left, token), 1, 0)[0, 0]

        def rest(here, index):
            lost = jnp.where(index == token, 1.0, 0.0) if drawn is None else jnp.exp(drawn[:, here])
            return jnp.where(index < row.vocab_size, jnp.maximum(left[:, here] - lost, 0.0), 0.0)

        @pl.when(passed == 0)
        def reject():
            sums = row.blocks(lambda sums, *block: sums + rest(*block), row.full(0.0))
            whole = total(sums)
            divisor = jnp.where(whole > 0, whole, 1.0)

            def store(_, here, index):
                left[:, here] = jnp.where(whole > 0, rest(here, index) / divisor, left[:, here])
                return _

            row.blocks(store, 0)

        return passed

    def draw(self, law: Law, first, second):
        """A token from what is left, by the noise of two words of a key; 0 where the law is broken."""
        row = self.row

        def perturbed(here, index):
            noise = gumbel(first, second, index.astype(jnp.uint32), row.vocab_size)
            inside = jnp.where(index < row.vocab_size, self.left[:, here], 0.0)
            return jnp.log(inside) + noise

        return jnp.where(law.broken, 0, row.argmax(perturbed))[0, 0]
