"""Text as tokens and back: the byte vocabulary of the shipped checkpoints, and the tokenizers of Hugging Face folders.

The functions `encode`, `encode_batch`, `decode` and `to_ids` are those of bytes; `load` gives a folder's own tokenizer.
"""

from jaxdec.text.automaton import Automaton, trimmed
from jaxdec.text.bytes import (
    BOS,
    BYTES,
    EOS,
    MASK,
    PAD,
    VOCAB_SIZE,
    ByteTokenizer,
    decode,
    encode,
    encode_batch,
    to_ids,
)
from jaxdec.text.contract import PieceTokenizer, Tokenizer, unreadable
from jaxdec.text.grammar import json_schema, regex
from jaxdec.text.huggingface import HuggingFaceTokenizer, load
from jaxdec.text.stop_strings import StopTable, stop_table, strings_by_row
from jaxdec.text.streaming import TextStream, find_stop

__all__ = [
    "BOS",
    "BYTES",
    "EOS",
    "MASK",
    "PAD",
    "VOCAB_SIZE",
    "Automaton",
    "ByteTokenizer",
    "HuggingFaceTokenizer",
    "PieceTokenizer",
    "StopTable",
    "TextStream",
    "Tokenizer",
    "decode",
    "encode",
    "encode_batch",
    "find_stop",
    "json_schema",
    "load",
    "regex",
    "stop_table",
    "strings_by_row",
    "to_ids",
    "trimmed",
    "unreadable",
]
