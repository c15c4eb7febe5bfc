"""Caches: committed tokens of fixed capacity, with a length a row and spans instead of masks."""

from jaxdec.cache.contract import Cache, Entries
from jaxdec.cache.kv import LONG, WIDE, KVCache, KVEntries, LayerEntries
from jaxdec.cache.linear_states import continue_states, state_before
from jaxdec.cache.recurrent import RecurrentCache, RecurrentEntries
from jaxdec.cache.routed import RoutedCache, RoutedEntries
from jaxdec.cache.sequence import SequenceCache
from jaxdec.cache.summed import SummedCache, SummedEntries

__all__ = [
    "LONG",
    "WIDE",
    "Cache",
    "Entries",
    "KVCache",
    "KVEntries",
    "LayerEntries",
    "RecurrentCache",
    "RecurrentEntries",
    "RoutedCache",
    "RoutedEntries",
    "SequenceCache",
    "SummedCache",
    "SummedEntries",
    "continue_states",
    "state_before",
]
