"""Speculation without a second model: from the prompt, from tables, from the target's own answers."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxdec.catalogue.method import Parts
from jaxdec.catalogue.speculation.family import TREES, Family
from jaxdec.model import Model, Params
from jaxdec.speculative import Drafter, drafters


def _table(make: Callable[..., Drafter], depth: str = "depth") -> Callable[[Parts], Drafter]:
    """Drafts trees without a model; sizes that are not given are the drafter's own."""

    def drafter(parts: Parts) -> Drafter:
        given = {depth: parts.length, "nodes": parts.nodes}
        return make(parts.target, **{k: size for k, size in given.items() if size is not None})

    return drafter


def _length(parts: Parts) -> dict[str, Any]:
    return {} if parts.length is None else {"length": parts.length}


def _sample_suffix(target: Model, draft: Model) -> tuple[Drafter, Mapping[str, Params]]:
    drafter = drafters.suffix_decoding(
        length=3, nodes=7, longest=4, occurrences=8, factor=3.0, name="history"
    )
    texts = [np.array([0, 1, 2, 3, 4, 5] * 3), np.array([5, 4, 0, 0, 2, 2])]
    return drafter, {"history": drafters.history_of(texts)}


def _states(params: Params, states: jax.Array) -> jax.Array:
    return states  # of an oracle: its logits, turned by the number of the layer


def _sample_exits(target: Model, draft: Model) -> Drafter:
    return drafters.EarlyExits(((1, draft),), 2, 3, name="draft")


def _sample_dynamic(target: Model, draft: Model) -> Drafter:
    return drafters.EarlyExits(((0, draft), (2, draft)), 3, 3, _states, 0.9, name="draft")


def _sample_searched(target: Model, draft: Model) -> tuple[Drafter, Mapping[str, Params]]:
    sizes = dict(slots=3, buckets=64)
    drafter = drafters.searched_trigrams(
        target, depth=3, nodes=7, simulations=12, name="corpus", **sizes
    )
    texts = [np.arange(18) % min(target.vocab_size, 6)]
    return drafter, {"corpus": drafters.corpus_of(texts, target.vocab_size, **sizes)}


FAMILIES = [
    Family(
        "lookup",
        "prompt lookup",
        "2205.10350",
        lambda parts: drafters.prompt_lookup(**_length(parts)),
        ("walk", "token", "block", "reflective"),
        benchmarks=("pair", "tokens_per_forward"),
    ),
    Family(
        "lookup-tree",
        "prompt lookup with several continuations at once",
        "2205.10350",
        _table(lambda target, **sizes: drafters.lookup_tree(**sizes), depth="length"),
        TREES,
        tests="tests/speculative/test_lookup.py",
    ),
    Family(
        "input-copy",
        "input-guided aggressive decoding (IAD): a copy of the input",
        "2205.10350",
        lambda parts: drafters.input_copy(**_length(parts)),
        ("walk", "token"),
        tests="tests/speculative/test_lookup.py",
    ),
    Family(
        "suffix",
        "SuffixDecoding: the continuations that followed the end of the text most often",
        "2411.04975",
        _table(lambda target, **sizes: drafters.suffix_decoding(**sizes), depth="length"),
        TREES,
        tests="tests/speculative/test_suffix_decoding.py",
        sample=_sample_suffix,
    ),
    Family(
        "layer-skip",
        "LayerSkip: the first layers of the target draft",
        "2404.16710",
        lambda parts: drafters.layer_skip(parts.target, **_length(parts)),
        ("walk", "token"),
        tests="tests/speculative/test_early_exits.py",
        sample=_sample_exits,
    ),
    Family(
        "del",
        "DEL: the first layers of the target draft, as many as serve best",
        "2504.05598",
        lambda parts: drafters.dynamic_exit(parts.target, **_length(parts)),
        ("walk", "token"),
        tests="tests/speculative/test_early_exits.py",
        sample=_sample_dynamic,
    ),
    Family(
        "recycling",
        "Token Recycling: what the target predicted after each token",
        "2408.08696",
        _table(drafters.token_recycling),
        TREES,
        tests="tests/speculative/test_recycling.py",
        sample=lambda target, draft: drafters.token_recycling(
            target, depth=3, nodes=8, rates=(0.5, 0.2, 0.1)
        ),
    ),
    Family(
        "trigrams",
        "ADED: the likeliest paths of trigrams that adapt to the text",
        "2407.12021",
        _table(drafters.trigram_tree),
        TREES,
        tests="tests/speculative/test_trigrams.py",
        sample=lambda target, draft: drafters.trigram_tree(
            target, depth=3, nodes=7, slots=3, buckets=64
        ),
    ),
    Family(
        "aded",
        "ADED: trigrams that adapt to the text, a tree found by simulations",
        "2407.12021",
        _table(drafters.searched_trigrams),
        TREES,
        tests="tests/speculative/test_searched_trigrams.py",
        sample=_sample_searched,
    ),
    Family(
        "jacobi",
        "Jacobi decoding: the target's answers to wrong guesses are the next guesses",
        "2305.10427",
        lambda parts: drafters.jacobi(parts.target, **_length(parts)),
        ("walk", "token"),
        tests="tests/speculative/test_jacobi.py",
    ),
    Family(
        "sjd",
        "speculative Jacobi decoding: guesses drawn from the target's last laws",
        "2410.01699",
        lambda parts: drafters.speculative_jacobi(parts.target, **_length(parts)),
        ("walk", "token", "clusters"),
        tests="tests/speculative/test_jacobi.py",
    ),
    Family(
        "lookahead",
        "Lookahead: n-grams of Jacobi iterations on later positions",
        "2402.02057",
        lambda parts: drafters.lookahead(parts.target),
        TREES,
        tests="tests/speculative/test_lookahead.py",
        sample=lambda target, draft: drafters.lookahead(target, ngram=3, columns=3, guesses=2),
    ),
]
