"""Exact laws of bytes from models of tokens: byte by byte, with prompts that may end anywhere."""

from jaxdec.byte_level.covers import Completed, Covers, begin, extend, follow, next_law
from jaxdec.byte_level.decoder import ByteLevel, byte_level
from jaxdec.byte_level.member import Member, member
from jaxdec.byte_level.merges import Merges
from jaxdec.byte_level.tokens import END, SYMBOLS, ByteTokens, byte_tokens

__all__ = [
    "END",
    "SYMBOLS",
    "ByteLevel",
    "ByteTokens",
    "Completed",
    "Covers",
    "Member",
    "Merges",
    "begin",
    "byte_level",
    "byte_tokens",
    "extend",
    "follow",
    "member",
    "next_law",
]
