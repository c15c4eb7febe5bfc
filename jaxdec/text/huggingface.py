"""Tokenizers of Hugging Face folders, by the `tokenizers` library (extra `hf`).

tokenizer.json           the whole tokenizer; or, in old folders,
vocab.json, merges.txt   byte-level pairs, as GPT-2 has them; or
vocab.txt                word pieces, as BERT has them
tokenizer_config.json    which tokens end a text and mask it, and the chat template, which may also stand in
chat_template.jinja      a file of its own
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdec.text import chat
from jaxdec.text.contract import PieceTokenizer
from jaxdec.text.spelling import spelling

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
MASKS = {"mask", "mdm_mask", "m"}
"""Names of masks, between brackets of any kind, in folders that do not say which token is theirs."""


class HuggingFaceTokenizer(PieceTokenizer):
    """A tokenizer of the `tokenizers` library; see `Tokenizer`. Two are equal if they are the same object.

    Args:
      library: a `tokenizers.Tokenizer`.
      config: as `tokenizer_config.json` holds it.
      template: the chat template, if there is one.

    Attributes:
      vocab_size: one more than the largest token.
      eos: the end of a text, or of a turn in a conversation; the file names one token at most.
      mask_token: or None.
      special_tokens: by name.
      frame: what the file's own post-processor puts around a text.
      chat_template: or None.

    Raises:
      ValueError: if the decoder of the tokenizer is of a kind that is not known.
    """

    def __init__(
        self, library: Any, config: Mapping[str, Any] | None = None, template: str | None = None
    ):
        library.no_truncation()
        library.no_padding()
        self._library, self.chat_template = library, template
        self._names = {role: _content((config or {}).get(f"{role}_token")) for role in ROLES}
        added = library.get_added_tokens_decoder()
        self.special_tokens: Mapping[str, int] = {
            token.content: i for i, token in sorted(added.items()) if token.special
        }
        self._words = library.get_vocab(with_added_tokens=True)
        self.vocab_size = 1 + max(self._words.values(), default=-1)
        self.eos = tuple(i for i in [self._role("eos")] if i is not None)
        self.mask_token = self._mask()
        pad = self._role("pad")
        self.pad = 0 if pad is None else pad
        decoder = library.decoder
        self._spell = spelling(None if decoder is None else json.loads(decoder.__getstate__()))

    def _role(self, role: str) -> int | None:
        return self._words.get(self._names[role])

    def _mask(self) -> int | None:
        named = self._role("mask")
        if named is not None:
            return named
        found = [i for s, i in self.special_tokens.items() if s.strip("<|[]>").lower() in MASKS]
        return found[0] if len(found) == 1 else None

    @functools.cached_property
    def _pieces(self) -> tuple[bytes, ...]:
        pieces = [b""] * self.vocab_size
        for word, i in self._words.items():
            if word not in self.special_tokens:
                pieces[i] = self._spell(word, False)
        return tuple(pieces)

    def pieces(self) -> Sequence[bytes]:
        """The bytes of each token inside a text; none for special tokens and for numbers that are no token."""
        return self._pieces

    def first_piece(self, token: int) -> bytes:
        """The bytes of a token at the beginning of a text."""
        return self._spell(self._library.id_to_token(token), True)

    @functools.cached_property
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the file's own post-processor puts before and behind a text."""
        framed = self._library.encode("a")
        own = [not special for special in framed.special_tokens_mask]
        first, last = own.index(True), len(own) - own[::-1].index(True)
        return tuple(framed.ids[:first]), tuple(framed.ids[last:])

    def to_ids(self, text: str | bytes) -> np.ndarray:
        """The tokens of a text alone, int32 `[n]`; names of special tokens in it are those tokens.

        Raises:
          ValueError: for bytes that are not UTF-8.
        """
        return np.array(self._library.encode(_text(text), add_special_tokens=False).ids, np.int32)

    def prompt_ids(self, text: str | bytes, bos: bool | None) -> np.ndarray:
        """The tokens of a prompt: as the file says, or with nothing around it, or behind the token of a beginning."""
        if bos is False:
            return self.to_ids(text)
        ids = np.array(self._library.encode(_text(text)).ids, np.int32)
        if bos:
            begin = self._role("bos")
            begin = self._role("cls") if begin is None else begin
            if begin is None:
                raise ValueError("the tokenizer has no token that begins a text (bos)")
            if not len(ids) or ids[0] != begin:
                ids = np.concatenate([[begin], ids])
        return ids

    def chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The prompt of a conversation, to be encoded with `bos=False`; see `jaxdec.text.chat.render`.

        Raises:
          ValueError: if there is no template, or it refuses the conversation.
        """
        if self.chat_template is None:
            return super().chat(messages)
        named = {f"{role}_token": name for role, name in self._names.items() if name is not None}
        return chat.render(self.chat_template, messages, {**named, **variables})


def load(folder: str | Path) -> HuggingFaceTokenizer | None:
    """The tokenizer of a folder; None if it holds none.

    Raises:
      ValueError: if it cannot be read: a damaged file, one of sentencepiece alone, or if the library is missing.
    """
    folder = Path(folder)
    make = next(
        (make for names, make in _KINDS if all((folder / n).is_file() for n in names)), None
    )
    if make is None:
        pieces = [p.name for n in ("*.model", "*.tiktoken", "*.spm") for p in folder.glob(n)]
        if pieces:
            raise ValueError(
                f"{folder} holds a tokenizer as {pieces[0]} alone, which is not read; save it as tokenizer.json "
                "(transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder))"
            )
        return None
    config = {
        **_json(folder / "special_tokens_map.json"),
        **_json(folder / "tokenizer_config.json"),
    }
    try:
        import tokenizers
    except ImportError:
        raise ValueError(
            "the tokenizer needs the library tokenizers: pip install tokenizers"
        ) from None
    try:
        library = make(tokenizers, folder, config)
        return HuggingFaceTokenizer(library, config, _template(folder, config))
    except Exception as error:  # the library raises nothing more special
        raise ValueError(f"the tokenizer in {folder} cannot be read: {error}") from error


def _whole(tokenizers: Any, folder: Path, config: Mapping[str, Any]) -> Any:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def _byte_pairs(tokenizers: Any, folder: Path, config: Mapping[str, Any]) -> Any:
    """As GPT-2 has it."""
    model = tokenizers.models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    library = tokenizers.Tokenizer(model)
    spaced = bool(config.get("add_prefix_space", False))
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    library.decoder = tokenizers.decoders.ByteLevel()
    _add_special(library, folder, {"eos_token": "<|endoftext|>", **config})
    return library


def _word_pieces(tokenizers: Any, folder: Path, config: Mapping[str, Any]) -> Any:
    """As BERT has it."""
    model = tokenizers.models.WordPiece.from_file(str(folder / "vocab.txt"), unk_token="[UNK]")
    library = tokenizers.Tokenizer(model)
    library.normalizer = tokenizers.normalizers.BertNormalizer(
        lowercase=bool(config.get("do_lower_case", True)),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    library.decoder = tokenizers.decoders.WordPiece()
    named = {f"{role}_token": f"[{role.upper()}]" for role in ("unk", "sep", "pad", "cls", "mask")}
    named |= {name: _content(value) for name, value in config.items() if name in named}
    _add_special(library, folder, named)
    sep, cls = (library.token_to_id(named[f"{role}_token"]) for role in ("sep", "cls"))
    if None not in (sep, cls):
        library.post_processor = tokenizers.processors.BertProcessing(
            (named["sep_token"], sep), (named["cls_token"], cls)
        )
    return library


def _add_special(library: Any, folder: Path, named: Mapping[str, Any]) -> None:
    """Marks the tokens that have a role as special, if the vocabulary has them, and adds those of added_tokens.json."""
    words = [_content(named.get(f"{role}_token")) for role in ROLES]
    added = _json(folder / "added_tokens.json")
    library.add_special_tokens(sorted(added, key=added.__getitem__))
    known = library.get_vocab()
    library.add_special_tokens([word for word in words if word in known])


_KINDS: tuple[tuple[tuple[str, ...], Any], ...] = (
    (("tokenizer.json",), _whole),
    (("vocab.json", "merges.txt"), _byte_pairs),
    (("vocab.txt",), _word_pieces),
)


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The chat template: the file's own if there is one, else the default one of the configuration."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    held = _json(folder / "chat_template.json").get("chat_template", config.get("chat_template"))
    if isinstance(held, list):
        held = {each["name"]: each["template"] for each in held}.get("default")
    return held


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one if there is no such file."""
    if not path.is_file():
        return {}
    try:
        held = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds no JSON object")
    return held


def _content(token: Any) -> Any:
    """The word of a token, which may be written as a dict."""
    return token.get("content") if isinstance(token, Mapping) else token


def _text(text: str | bytes) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the text is not UTF-8 at byte {error.start}; this vocabulary takes characters"
        ) from None
