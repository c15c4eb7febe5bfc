"""Wrong values of every argument of `generate`, each with the words that a message about it has to hold."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import jaxdec
from jaxdec.testing.battery.cases import Letters
from tests.fuzz import subjects, values
from tests.fuzz.subjects import CANVASES, PROMPTED, V
from tests.fuzz.values import BATCH


def _named(name: str, pairs: st.SearchStrategy) -> st.SearchStrategy:
    return pairs.map(lambda pair: ({name: pair[0]}, pair[1]))


def these(name: str, each: Any, *said: str) -> st.SearchStrategy:
    """Some wrong values of one argument; `said` in place of its name."""
    held = each if isinstance(each, st.SearchStrategy) else st.sampled_from(each)
    return held.map(lambda value: ({name: value}, said or (name,)))


LIMITS = {
    "temperature": (0,),
    "top_p": (0, 1, False),
    "min_p": (0, 1),
    "typical": (0, 1, False),
    "epsilon": (0, 0.999999),
    "top_h": (0, 1, False),
    "repetition_penalty": (0, np.inf, False),
    "presence_penalty": (-np.inf,),
    "frequency_penalty": (-np.inf,),
}
strange_token = values.wrong_tokens(V)
far_off = st.integers(-(2**40), -1) | st.integers(V, 2**40)
word = st.text("abcdefghijklmnopqrstuvwxyz_ -%{}\n", min_size=1, max_size=12)
_key = lambda count: jax.random.split(jax.random.key(0), count)


def _unknown(name: str) -> bool:
    known = {*jaxdec.sampling.Warp.__dataclass_fields__, *jaxdec.generate.__kwdefaults__}
    own = {
        knob
        for held in (*PROMPTED, *CANVASES)
        for knob in getattr(subjects.decoder(held), "knobs", {})
    }
    return name not in {*known, *own, "decoder", "params", "prompt", "self", "rng"}


RAGGED = "rows of unequal length"
TEXTS = ("a word", "bytes", "words in a list")
"""Junk that are stop strings."""

WRONG: dict[str, st.SearchStrategy] = {
    **{name: _named(name, values.wrong_reals(name, *limit)) for name, limit in LIMITS.items()},
    **{
        name: _named(name, values.wrong_integers(name, 0, 2**80))
        for name in ("top_k", "no_repeat_ngram", "min_new_tokens")
    },
    "max_new_tokens": _named(
        "max_new_tokens", values.wrong_integers("max_new_tokens", 0, 2**28)
    ),
    "hypotheses": _named("hypotheses", values.wrong_integers("hypotheses", 1, 2**28)),
    "top_log_probs": _named("top_log_probs", values.wrong_integers("top_log_probs", 0, V)),
    "most_new_tokens": _named("most_new_tokens", values.wrong_integers("most_new_tokens", 0, 2**28)),
    "lengths": these("lengths", [[1, 2], [[1, 2, 3]], [1.0] * 3, 2, "abc", [True] * 3, [[1], 2, 3]])
    | these("lengths", values.junk)
    | these("lengths", (st.integers(-(2**40), 0) | st.integers(4, 2**40)).map(lambda n: [1, n, 1]), "1"),
    "logit_bias": these("logit_bias", [np.full(V, np.nan), np.full(V, np.inf), np.zeros(V - 1), 0.5])
    | these("logit_bias", [np.zeros((2, V)), [0.0] * (V - 1) + ["x"], [[0.0] * V, [0.0]], [1e39] * V])
    | these("logit_bias", [np.zeros(V, bool), np.zeros((1, BATCH, V))])
    | these("logit_bias", values.junk),
    "banned": these("banned", [np.ones(V, bool), np.zeros(V), np.zeros(V + 1, bool), True, [[True], []]])
    | these("banned", values.junk),
    "bad_words": these("bad_words", [5, [5], [[]], [[1], []], [["a"]], [[1.0]], [[True]], "ab", [[[1]]] * 2])
    | these("bad_words", far_off.map(lambda t: [[1, t]]))
    | these("bad_words", [np.array([[-1, 2]]), np.zeros((2, 2)), np.zeros((2, 2, 2), int)])
    | these("bad_words", values.junk),
    # Sequences of any lengths are right, one a row.
    "forced_prefix": these("forced_prefix", [5, "ab", [[1]] * 2, [1.0], [True], np.zeros((2, 2), int)])
    | these("forced_prefix", (st.integers(-(2**40), -2) | st.integers(V, 2**40)).map(lambda t: [1, t]))
    | these("forced_prefix", values.junk.filter(lambda thing: thing.name != RAGGED)),
    "eos": these("eos", strange_token.map(lambda t: [1, t]))
    | these("eos", [1.0, [1.0], [[1], [2]], "a", [None], [True], [[1], 2]])
    | these("eos", values.junk),
    "stop": these("stop", strange_token.map(lambda t: [[1, t]]))
    | these("stop", [5, [5], "ab", ["ab"], [[]], [[1], []], [[1.0]], [[[1]]], [None], [[True]]])
    | these("stop", values.junk.filter(lambda thing: thing.name != "an empty key")),
    "stop_strings": these("stop_strings", ["", [""], 5, [5], [["a"]] * 2, ["a", ["b"]], [None]], "stop")
    | these("stop_strings", [[["a"], [1], []]], "stop")
    | these("stop_strings", values.junk.filter(lambda thing: thing.name not in TEXTS), "stop"),
    "tokenizer": these("tokenizer", [5, "bytes", Letters, object()]) | these("tokenizer", values.junk),
    "cache": these("cache", [5, "int8", {}, ()]),
    "placement": these("placement", [5, "data=2", {"data": 1}, ()]),
    "order": these("order", [5, "left", np.arange(3), ()]),
    "rng": these("rng", [-1, 2**32, 0.5, None, "0", True, [1, 2], [1, 2, 3, 4], [1, -1, 2], [1, 2**32, 2]])
    | these("rng", [[0.5] * 3, [True] * 3, ["1"] * 3, [[1, 2, 3]], [None] * 3, [2**80, 1, 2], (), {}])
    | these("rng", [[[1], [2, 3], []]])
    | st.sampled_from([2, 4, 6]).map(lambda n: ({"rng": _key(n)}, ("rng",)))
    | st.just(({"rng": jnp.zeros(2, jnp.uint32)}, ("rng",)))
    | these("rng", values.junk.filter(lambda thing: thing.name != "a key")),
    "prompt": these("prompt", [[1, 2, 3], [[1, 2], [3]], [[1.0] * 3] * 3, "ab", [[True] * 3] * 3])
    | these("prompt", [np.zeros((3, 0), int), np.zeros((0, 3), int), np.zeros((3, 3, 1), int)])
    | these("prompt", [[["a"] * 3] * 3, [[None]] * 3, None])
    | strange_token.map(lambda t: ({"prompt": [[1, 2, 3], [1, 2, t], [1, 1, 1]]}, ("prompt",)))
    | these("prompt", values.junk),
    "a setting that there is not": word.filter(_unknown).map(lambda name: ({name: 1}, (repr(name),))),
}  # fmt: skip
"""By argument: what else than `PLAIN` is given, and what the message says."""

PARAMS = [
    None, 5, "params", [], {}, (), {"Target": 1}, {"draft": subjects.PARAMS["draft"]}, np.zeros(3),
    {"target": None}, {"target": 5}, {"target": "x"}, {"target": {}}, {"target": object()},
    {"target": np.zeros((509, V - 1), np.float32)}, {"target": np.zeros(V, np.float32)},
    {"target": [subjects.PARAMS["target"]]}, {"target": jax.random.key(0)}, {"target": b"x"},
]  # fmt: skip
DECODERS = [
    None,
    5,
    "plain",
    subjects.MODEL,
    jaxdec.Autoregressive,
    jaxdec.autoregressive,
    object(),
    {},
]
WRONG["params"] = these("params", PARAMS, "")
WRONG["decoder"] = these("decoder", DECODERS, "decoder")
