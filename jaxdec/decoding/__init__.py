"""The algorithm contract: decoders and their parts, the one loop that runs them, and what becomes of tokens."""

from jaxdec.decoding.checks import check_decoder, check_length, check_serves, integers
from jaxdec.decoding.contract import Decoder, DecoderState, Exactness, State
from jaxdec.decoding.in_place import after, once
from jaxdec.decoding.loop import decode, init, run, stepped, stream, with_rows, with_settings
from jaxdec.decoding.moving import by_row, put_row, repeat_row, take_rows
from jaxdec.decoding.part import TARGET, Part, Scored, check_parts, part_names, target_params
from jaxdec.decoding.prefill import Reading, by_prompt, prefill, read_on, read_prompts, spread
from jaxdec.decoding.record import Info, Record, Stats
from jaxdec.decoding.request import Knob, Request, Settings
from jaxdec.decoding.row_moves import at_home, move_rows
from jaxdec.decoding.rows import Rows
from jaxdec.decoding.stops import RowStops, Status, Stops

__all__ = [
    "TARGET",
    "Decoder",
    "DecoderState",
    "Exactness",
    "Info",
    "Knob",
    "Part",
    "Reading",
    "Record",
    "Request",
    "RowStops",
    "Rows",
    "Scored",
    "Settings",
    "State",
    "Stats",
    "Status",
    "Stops",
    "after",
    "at_home",
    "by_prompt",
    "by_row",
    "check_decoder",
    "check_length",
    "check_parts",
    "check_serves",
    "decode",
    "init",
    "integers",
    "move_rows",
    "once",
    "part_names",
    "prefill",
    "put_row",
    "read_on",
    "read_prompts",
    "repeat_row",
    "run",
    "spread",
    "stepped",
    "stream",
    "take_rows",
    "target_params",
    "with_rows",
    "with_settings",
]
