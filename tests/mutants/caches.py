"""Faults of the cache and of what is committed to it."""

from tests.mutants.mutant import Mutant

KV = "jaxdec/cache/kv.py"
REFERENCE = "pallas_kernels/commit/reference.py"

MUTANTS = [
    Mutant(
        "what was dropped stays visible",
        KV,
        "dataclasses.replace(self.hide(later), length=jnp.minimum(self.length, length))",
        "dataclasses.replace(self, length=jnp.minimum(self.length, length))",
        "a cache that goes back to fewer tokens shows the others still",
    ),
    Mutant(
        "a shorter row grows as others go back",
        KV,
        "length=jnp.minimum(self.length, length)",
        "length=length",
        "a row that holds no more than it shall keep becomes longer",
    ),
    Mutant(
        "last slots unusable",
        KV,
        "self.length + width <= self.capacity",
        "self.length + width < self.capacity",
        "a commit that fills the cache exactly is refused",
    ),
    Mutant(
        "commit past the end",
        KV,
        "jnp.where(self.length + width <= self.capacity, count, 0)",
        "count",
        "the length of a row grows although nothing could be stored",
    ),
    Mutant(
        "a rejected draft stays",
        KV,
        "kept = jnp.arange(width) < count[:, None]",
        "kept = jnp.arange(width) <= count[:, None]",
        "one draft more than was accepted stays visible",
    ),
    Mutant(
        "positions not along the path",
        KV,
        "jnp.take_along_axis(entries.positions, index, axis=1)",
        "entries.positions[:, :width]",
        "stored positions are those of other tokens of the tree",
    ),
    Mutant(
        "length by the width of a commit",
        KV,
        "length=self.length + count,",
        "length=self.length + jnp.where(count > 0, width, 0),",
        "slots of rejected drafts count as used",
    ),
    Mutant(
        "a write keeps old positions",
        KV,
        "positions=put(self.positions, entries.positions),",
        "positions=self.positions,",
        "refreshed slots keep the positions of what stood there",
    ),
    Mutant(
        "a write keeps old spans",
        KV,
        "spans=put(self.spans, key_spans),\n            positions=put(self.positions, entries.positions),",
        "spans=self.spans,\n            positions=put(self.positions, entries.positions),",
        "refreshed slots keep the spans of what stood there",
    ),
    Mutant(
        "entries not along the path",
        REFERENCE,
        "jnp.take_along_axis(x, index[:, None, :, None], axis=2)",
        "x[:, :, : index.shape[1]]",
        "what is stored belongs to other tokens of the tree",
    ),
    Mutant(
        "skipped slots wrap around",
        REFERENCE,
        "(slots < 0) | (slots >= capacity)",
        "slots >= capacity",
        "a slot that is to be skipped overwrites one from the end",
    ),
    Mutant(
        "committed one rank late, drafts",
        "jaxdec/speculative/loop.py",
        "ranks = state.rows.length[:, None] - 1 + jnp.arange(self.width)",
        "ranks = state.rows.length[:, None] + jnp.arange(self.width)",
        "committed tokens are seen from one rank later on",
    ),
    Mutant(
        "committed one rank late, prompts",
        "jaxdec/decoding/prefill.py",
        "visibility.causal(index).key_spans",
        "visibility.causal(index + 1).key_spans",
        "the tokens of a prompt are seen from one rank later on",
    ),
    Mutant(
        "ended rows commit",
        "jaxdec/autoregressive.py",
        "jnp.zeros_like(token), count, key_spans",
        "jnp.zeros_like(token), jnp.ones_like(count), key_spans",
        "the cache of a row that has ended grows",
    ),
]
