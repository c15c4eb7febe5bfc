"""A byte-pair encoding of ten tokens, and laws of texts by brute force over strings of tokens."""

import functools
import itertools
import math

BASE = [b"a", b"b", b"c"]
MERGES = [
    (b"a", b"b"),
    (b"b", b"c"),
    (b"ab", b"c"),
    (b"c", b"c"),
    (b"a", b"a"),
    (b"ab", b"ab"),
    (b"cc", b"a"),
]
PIECES = [*BASE, *(x + y for x, y in MERGES), b"", b""]
END_TOKEN, START, V = 10, 11, 12  # fmt: skip


@functools.cache
def encode(text: bytes) -> tuple[int, ...]:
    """Merges the pair of the lowest rank, the leftmost first, as long as there is one."""
    parts = [bytes([byte]) for byte in text]
    while True:
        pairs = list(enumerate(itertools.pairwise(parts)))
        found = [(MERGES.index(pair), i) for i, pair in pairs if pair in MERGES]
        if not found:
            return tuple(PIECES.index(part) for part in parts)
        i = min(found)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def encode_by(merges, text: bytes) -> list[int]:
    """The same with any merges `(first, second, merged)` of three single bytes."""
    tokens, order = [b"abc".index(byte) for byte in text], [merge[:2] for merge in merges]
    while True:
        pairs = list(enumerate(itertools.pairwise(tokens)))
        found = [(order.index(pair), i) for i, pair in pairs if pair in order]
        if not found:
            return tokens
        rank, i = min(found)
        tokens[i : i + 2] = [merges[rank][2]]


def decode(tokens) -> bytes:
    return b"".join(PIECES[token] for token in tokens)


def is_encoding(tokens) -> bool:
    return encode(decode(tokens)) == tuple(tokens)


def restricted(log_weights, context):
    """Log-probabilities of the tokens that may follow a context, and of the end: brute force over whole strings."""
    allowed = [v for v in range(10) if is_encoding((*context, v))] + [END_TOKEN]
    top = max(log_weights[v] for v in allowed)
    total = top + math.log(sum(math.exp(log_weights[v] - top) for v in allowed))
    return {v: log_weights[v] - total for v in allowed}


def prefix_probability(law, text: bytes) -> float:
    """The probability that a text begins with some bytes: the sum over all strings of tokens that just reach them.

    Args:
      law: from a context, a tuple of tokens, to log-probabilities by token.
      text: the bytes.
    """

    def beyond(context, log_prob):
        total = 0.0
        for v, more in law(context).items():
            said = decode(context) + PIECES[v]
            if v == END_TOKEN:
                continue
            if said.startswith(text):
                total += math.exp(log_prob + more)
            elif text.startswith(said):
                total += beyond((*context, v), log_prob + more)
        return total

    return beyond((), 0.0) if text else 1.0


def whole_probability(law, text: bytes) -> float:
    """The probability that a text is these bytes: the sum over all strings of tokens that spell them."""

    def beyond(context, log_prob):
        said = decode(context)
        laws = law(context)
        total = math.exp(log_prob + laws[END_TOKEN]) if said == text else 0.0
        for v, more in laws.items():
            if v != END_TOKEN and text.startswith(said + PIECES[v]):
                total += beyond((*context, v), log_prob + more)
        return total

    return beyond((), 0.0)
