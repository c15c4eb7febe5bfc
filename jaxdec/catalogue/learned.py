"""Methods that decode a canvas by a policy that was trained for its model."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxdec.catalogue.canvas import BLOCK, denoising
from jaxdec.catalogue.method import Method, Parts
from jaxdec.decoding import Decoder
from jaxdec.diffusion import Unmask, end_of_text, schedules
from jaxdec.diffusion import unmask as policies
from jaxdec.model import Model, PositionHead


def _in_windows(parts: Parts, policy: Unmask) -> tuple[schedules.Schedule, Unmask]:
    """One group, in blocks of the policy that its head reads at once."""
    window = getattr(parts.draft, "window", None)
    return schedules.whole(), policies.in_blocks(policy, window or BLOCK)


def _trained(
    name: str,
    title: str,
    paper: str,
    policy: Callable[[PositionHead], Unmask],
    kind: str,
    checkpoint: str,
    **further: Any,
) -> Method:
    """A row: a policy around a head that looks at how sure the model is.

    Args:
      name: see `Method`; so the next two.
      title: what it does.
      paper: where it comes from.
      policy: builds the policy of a head, whose parameters are called `draft`.
      kind: of the head.
      checkpoint: the shipped head.
      **further: as `denoising` takes them.
    """

    row = denoising(name, title, paper, policies.threshold, benchmark="tasks", draft=checkpoint)

    def make(parts: Parts) -> Decoder:
        head = parts.draft
        if not isinstance(head, PositionHead):
            row.make(parts)  # says first what is wrong with the model
            raise ValueError(f"method {name!r} needs a head of the kind {kind!r}")
        return denoising(name, title, paper, lambda: policy(head), **further).make(parts)

    def sample(target: Model, draft: Model):
        from jaxdec.testing.heads import position_head

        head, params = position_head(kind)
        return make(Parts(target, head)), {"draft": params}

    return dataclasses.replace(row, make=make, heads=kind, sample=sample)


ROWS = [
    _trained(
        "learned",
        "a learned unmasking policy: each token by a coin whose chance a small transformer gives, trained by rewards "
        "to be right in few forwards",
        "2512.09106",
        lambda head: policies.learned(head, name="draft"),
        "unmasking",
        "tasks-unmasking",
    ),
    _trained(
        "learn2pd",
        "Learn2PD: one token a forward, and those that a trained filter takes for final; a canvas ends where its end "
        "is expected (EoTP)",
        "2509.25188",
        lambda head: policies.learn2pd(head, name="draft"),
        "finality",
        "tasks-finality",
        layout=_in_windows,
        alone="moves the end of the canvas",
        grow=lambda parts: end_of_text(),
    ),
]
