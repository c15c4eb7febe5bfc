"""A stream of requests instead of one rectangle of prompts: slots that are refilled inside the compiled loop."""

from jaxdec.generation.requests.call import Call
from jaxdec.generation.requests.completed import Completed, Refused
from jaxdec.generation.requests.engine import Engine
from jaxdec.generation.requests.journal import Journal
from jaxdec.generation.requests.policies import FirstCome, Policy, SameRemaining, ShortestFirst
from jaxdec.generation.requests.slot_engine import NO_LIMIT, SlotEngine
from jaxdec.generation.requests.state import EngineState, Finished, Slots
from jaxdec.generation.requests.waiting import NEVER, NOBODY, Waiting

__all__ = [
    "NEVER",
    "NOBODY",
    "NO_LIMIT",
    "Call",
    "Completed",
    "Engine",
    "EngineState",
    "Finished",
    "FirstCome",
    "Journal",
    "Policy",
    "Refused",
    "SameRemaining",
    "ShortestFirst",
    "SlotEngine",
    "Slots",
    "Waiting",
]
