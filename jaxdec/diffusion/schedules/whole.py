"""One group."""

from jaxdec.diffusion.schedules.schedule import Schedule


def whole() -> Schedule:
    """One group: every position may be committed at any time."""
    return Schedule()
