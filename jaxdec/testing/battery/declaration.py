"""What a decoder states of itself."""

from jaxdec.decoding import Exactness
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
    if subject.counted.traced[0] != 1:
        raise Difference("compilations of the step", expected=1, got=subject.counted.traced[0])
