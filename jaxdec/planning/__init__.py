"""Plans of decodes on TPUs that need not be there: memory, traffic, time, and whether to speculate."""

from jaxdec.planning.chips import CHIPS, Chip, Topology
from jaxdec.planning.facts import facts
from jaxdec.planning.models import SIZES
from jaxdec.planning.plan import CHEAP, TOKENS, depths, plan
from jaxdec.planning.task import Task

__all__ = [
    "CHEAP",
    "CHIPS",
    "SIZES",
    "TOKENS",
    "Chip",
    "Task",
    "Topology",
    "depths",
    "facts",
    "plan",
]
