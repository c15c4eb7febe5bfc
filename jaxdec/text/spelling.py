"""What bytes a token of a `tokenizer.json` stands for, as the file's decoder says.

The decoders of the `tokenizers` library work on a whole row of tokens, and give text in which broken characters are
replaced already. Each of them is a rule about single tokens, but for what happens at the beginning of a text; so it is
read here as that: a spelling inside of a text, and one at its beginning.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

Rule = Callable[[str | bytes, bool], str | bytes]
"""From what a token is so far, and whether it is the first one, to what it is then."""


def spelling(decoder: Mapping[str, Any] | None) -> Callable[[str, bool], bytes]:
    """The bytes of a token, `spell(token, first)`.

    Args:
      decoder: that part of a `tokenizer.json`.

    Raises:
      ValueError: for a decoder that is not known.
    """
    rules = [*_rules(decoder)]

    def spell(token: str, first: bool) -> bytes:
        spelled: str | bytes = token
        for rule in rules:
            spelled = rule(spelled, first)
        return spelled if isinstance(spelled, bytes) else spelled.encode()

    return spell


def _rules(decoder: Mapping[str, Any] | None):
    if decoder is None:
        yield lambda token, first: token if first else " " + token
        return
    kind = decoder.get("type")
    if kind == "Sequence":
        fused = False
        for part in decoder["decoders"]:
            fused |= part.get("type") == "Fuse"
            if part.get("type") == "Strip":
                yield _strip(part, whole=fused)
            else:
                yield from _rules(part)
    elif kind == "Strip":
        yield _strip(decoder, whole=False)
    elif kind in _KNOWN:
        yield _KNOWN[kind](decoder)
    elif kind != "Fuse":  # which joins tokens, as everything here does
        raise ValueError(f"its decoder is a {kind!r}, which is not known")


@functools.cache
def byte_letters() -> dict[str, int]:
    """The letters that byte-level vocabularies write bytes with, as GPT-2 began to.

    Bytes that print are themselves; the others, in order, are the letters from U+0100 on.
    """
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {
        **{chr(byte): byte for byte in printed},
        **{chr(256 + i): byte for i, byte in enumerate(others)},
    }


def _byte_level(decoder: Mapping[str, Any]) -> Rule:
    letters = byte_letters()

    def rule(token, first):
        if isinstance(token, bytes) or any(letter not in letters for letter in token):
            return token  # an added token, which is text as it stands
        return bytes(letters[letter] for letter in token)

    return rule


def _byte_fallback(decoder: Mapping[str, Any]) -> Rule:
    pattern = re.compile(r"<0x([0-9A-Fa-f]{2})>")

    def rule(token, first):
        found = None if isinstance(token, bytes) else pattern.fullmatch(token)
        return token if found is None else bytes([int(found[1], 16)])

    return rule


def _replace(decoder: Mapping[str, Any]) -> Rule:
    (kind, pattern), content = next(iter(decoder["pattern"].items())), decoder["content"]
    if kind == "Regex":
        found = re.compile(pattern)
        change = lambda token: found.sub(lambda _: content, token)
    else:
        change = lambda token: token.replace(pattern, content)
    return lambda token, first: token if isinstance(token, bytes) else change(token)


def _metaspace(decoder: Mapping[str, Any]) -> Rule:
    space = decoder.get("replacement", "▁")
    scheme = "always" if decoder.get("add_prefix_space", True) else "never"
    dropped = decoder.get("prepend_scheme", scheme) != "never"

    def rule(token, first):
        if isinstance(token, bytes):
            return token
        return token.replace(space, "" if first and dropped else " ")

    return rule


def _word_piece(decoder: Mapping[str, Any]) -> Rule:
    prefix, clean = decoder.get("prefix", "##"), decoder.get("cleanup", True)
    joined = [" .", " ?", " !", " ,", (" ' ", "'"), " n't", " 'm", (" do not", " don't")]
    joined += [" 's", " 've", " 're"]
    pairs = [(each, each[1:]) if isinstance(each, str) else each for each in joined]

    def rule(token, first):
        if isinstance(token, bytes):
            return token
        if not first:
            token = token[len(prefix) :] if token.startswith(prefix) else " " + token
        if clean:
            for apart, together in pairs:
                token = token.replace(apart, together)
        return token

    return rule


def _strip(decoder: Mapping[str, Any], whole: bool) -> Rule:
    """Drops `start` times the content at the beginning: of the text if tokens are fused before, else of each token."""
    content, start, stop = decoder.get("content", " "), decoder["start"], decoder["stop"]
    if stop:
        raise ValueError(f"its decoder strips {stop} letters at the end, which is not known")

    def rule(token, first):
        if whole and not first:
            return token
        begins = content.encode() if isinstance(token, bytes) else content
        for _ in range(start):
            token = token.removeprefix(begins)
        return token

    return rule


_KNOWN: dict[str, Callable[[Mapping[str, Any]], Rule]] = {
    "ByteLevel": _byte_level,
    "ByteFallback": _byte_fallback,
    "Replace": _replace,
    "Metaspace": _metaspace,
    "WordPiece": _word_piece,
}
