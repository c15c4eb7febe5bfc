"""Oracles, exact enumeration and the conformance battery: public, for anybody who writes a drafter or a decoder."""

from jaxdec.testing import battery, enumeration, oracles, parts
from jaxdec.testing.battery import Report, check
from jaxdec.testing.model_checks import check_model
from jaxdec.testing.statistics import g_test
from jaxdec.testing.twin import TwinResult, python_twin

__all__ = [
    "Report",
    "TwinResult",
    "battery",
    "check",
    "check_model",
    "enumeration",
    "g_test",
    "oracles",
    "parts",
    "python_twin",
]
