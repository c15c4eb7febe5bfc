"""The bans of the logits pipeline against loops over lists of tokens: after a text, along a tree, as a tree grows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import diffusion, generation
from jaxdec.sampling import History, TextBefore, Warp
from jaxdec.testing import oracles
from jaxdec.testing.bans import ruled_out

V, WIDTH, NODES, DEPTH = 4, 16, 6, 4
VOCAB = 7
PARENTS = np.array([-1, 0, 0, 1, 3, 1])  # node 4 is at depth 4

Law = Callable[[Warp, jax.Array, History | None], jax.Array]


def draw_bans(rng: np.random.Generator, batch: int) -> dict[str, np.ndarray]:
    """Each row its own bans, of each kind off in some."""
    words = rng.integers(0, V, (batch, 3, 3))
    words[np.arange(3) >= rng.integers(0, 4, (batch, 3, 1))] = -1  # of 0 to 3 tokens
    prefix = rng.integers(0, V, (batch, 3))
    prefix[rng.random(prefix.shape) < 0.75] = -1
    ends = rng.integers(0, V, (batch, 2))
    ends[rng.random(ends.shape) < 0.3] = -1
    return dict(
        no_repeat_ngram=rng.integers(0, 6, batch),
        bad_words=words,
        min_new_tokens=rng.integers(0, 9, batch),
        ends=ends,
        forced_prefix=prefix,
    )


def draw_texts(rng: np.random.Generator, batch: int) -> TextBefore:
    """Texts of 1 to all tokens, with prompts of 1 to all of them; what stands behind them means nothing."""
    length = rng.integers(1, WIDTH + 1, batch)
    start = rng.integers(1, length + 1)
    whole = lambda x: jnp.asarray(x, jnp.int32)
    # Two tokens are frequent, so that n-grams come again.
    tokens = np.minimum(rng.integers(0, V + 2, (batch, WIDTH)), rng.integers(1, V, (batch, 1)))
    return TextBefore.of(whole(tokens), whole(length), whole(start))


def _compare(law: np.ndarray, text: list[int], start: int, knobs: dict[str, Any], what: str) -> str:
    """Raises unless a law of legal logits has the support that the lists give it; says what kind of law it is."""
    banned, forced = ruled_out(text, start, V, knobs)
    left = {forced} if forced is not None else set(range(V)) - banned
    where = f"{what}, after {text} of which {start} are the prompt, with {knobs}"
    if not left:
        assert np.isnan(law).all(), f"no token is left {where}, got {law}"
        return "none"
    found = set(np.flatnonzero(np.isfinite(law)).tolist())
    assert found == left, f"{where}: {found} are possible, not {left}"
    return "forced" if forced is not None else "some" if banned else "all"


def check_bans(log_probs: Law = Warp.log_probs, rounds: int = 12) -> None:
    """Repeated n-grams, bad words, early ends and given tokens are those of loops over lists, wherever drafts stand.

    Args:
      log_probs: `(warp, logits [B, ..., V], history) -> [B, ..., V]`; that of `Warp` if not given.
      rounds: random batches of 16 rows.

    Raises:
      AssertionError: naming the text and the settings.
    """
    batch, kinds = 16, set[str]()
    lineage = np.zeros((NODES, NODES), bool)
    for node, parent in enumerate(PARENTS):
        lineage[node] = lineage[parent] * (parent >= 0)
        lineage[node, node] = True

    @jax.jit
    def laws(warp, flat, tree, text, drafts):
        history = History(text=text)
        along = history.along(drafts, jnp.broadcast_to(lineage, (batch, NODES, NODES)), DEPTH)
        ahead = history.at(text.length[:, None] + jnp.arange(2))
        # The same tree, level by level: a frontier of two, of which the second slot is the deeper path.
        slots = jnp.tile(jnp.array([0, 0]), (batch, 1))
        grown = history.spread(2, DEPTH).follow(slots, drafts[:, :2]).follow(slots, drafts[:, 2:4])
        some = lambda history, count: log_probs(warp, tree[:, :count], history)
        return log_probs(warp, flat, history), some(along, NODES), some(grown, 2), some(ahead, 2)

    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        knobs, text = draw_bans(rng, batch), draw_texts(rng, batch)
        drafts = rng.integers(0, V, (batch, NODES))
        logits = rng.normal(size=(batch, NODES + 1, V)).astype(np.float32)
        warp = Warp(**knobs).validate(batch, V)
        whole = jnp.asarray(drafts, jnp.int32)
        got = jax.device_get(laws(warp, logits[:, 0], logits[:, 1:], text, whole))
        flat, along, grown, ahead = got
        for row in range(batch):
            own = {name: value[row].tolist() for name, value in knobs.items()}
            start, length = int(text.prompt_length[row]), int(text.length[row])
            told = np.asarray(text.tokens)[row, :length].tolist()
            kinds.add(_compare(flat[row], told, start, own, "plain"))
            for node in range(NODES):
                path = [*told, *drafts[row][lineage[node]].tolist()]
                _compare(along[row, node], path, start, own, f"at node {node}")
            for slot in range(2):
                path = [*told, int(drafts[row, 0]), int(drafts[row, 2 + slot])]
                _compare(grown[row, slot], path, start, own, f"in slot {slot}")
            _compare(ahead[row, 0], told, start, own, "at the next rank")
            # One rank on nothing is known of the token before, so that no sequence is complete.
            unread = dict(
                own, no_repeat_ngram=0, bad_words=[w for w in own["bad_words"] if w[1] < 0]
            )
            if own["no_repeat_ngram"] != 1:
                _compare(ahead[row, 1], [*told, 0], start, unread, "at the rank after it")
    assert kinds == {"none", "forced", "some", "all"}, kinds


def check_bans_on_canvases() -> None:
    """On a canvas given tokens and early ends go by place, however many places are filled at once.

    Raises:
      AssertionError: with the tokens that were written.
    """
    model, table = oracles.hash_oracle(VOCAB, seed=2)
    decoder = diffusion.denoise(oracles.canvas(model), unmask=diffusion.unmask.threshold(0.0))
    result = generation.generate(
        decoder,
        {"target": table},
        np.array([[1, 2, 3], [4, 1, 2]]),
        rng=4,
        max_new_tokens=10,
        min_new_tokens=[6, 0],
        eos=[3],
        forced_prefix=[[-1, 2, -1, 1], [5, 4]],
    )
    one, two = np.asarray(result.tokens)[:, 3:].tolist()
    assert one[1] == 2 and one[3] == 1 and 3 not in one[:6], f"a row that begins by {one[:6]}"
    assert two[:2] == [5, 4], f"a row that begins by {two[:2]}, not by 5, 4"
