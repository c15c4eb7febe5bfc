"""What a decoder states of itself."""

from jaxdec.decoding import Exactness
from jaxdec.testing.battery.cases import CASES, FILLERS, WIDTH
from jaxdec.testing.battery.report import Difference
from jaxdec.testing.battery.subject import Subject, built


def check_declaration(subject: Subject) -> None:
    """The decoder states what it promises."""
    if not isinstance(subject.exactness, Exactness):
        raise Difference("declares an Exactness", got=subject.exactness)


def check_compiled_once(subject: Subject) -> None:
    """Equal parts make equal decoders, and runs that differ in every traced setting compile once."""
    again, _ = built(subject.make, subject.model)
    if subject.decoder != again or hash(subject.decoder) != hash(again):
        raise Difference("two decoders with equal parts are equal, or each is compiled anew")
    assert subject.free
    cases = [FILLERS[1] if len(case.prompt) == WIDTH else case for case in CASES[::-1]]
    width = max(len(case.prompt) for case in cases)
    stops = ([0], [[1], [2, 3], [3, 4, 5]], ["abba", "bb"])
    subject.run(cases, keys=subject.keys[::-1], stops=stops, width=width)
    if subject.counted.traced[0] != 1:
        raise Difference("compilations of the step", expected=1, got=subject.counted.traced[0])
