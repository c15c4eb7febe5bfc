"""Decoders under test: methods of the catalogue by name, and controls that no catalogue would offer."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import jaxdec
from benchmarks.setting import Setting
from benchmarks.workload import Variant
from jaxdec.catalogue import METHODS, Parts
from jaxdec.catalogue.assembly import assemble
from jaxdec.checkpoints import Checkpoint, load_any
from jaxdec.model import Model


def build(
    setting: Setting,
    method: str,
    length: int | None = None,
    nodes: int | None = None,
    *,
    target: Checkpoint | None = None,
    name: str | None = None,
    about: str = "",
) -> Variant:
    """A method of the catalogue, for the case's target or for another one with its vocabulary.

    What drafts with a small model drafts with the case's second one.
    """
    row = METHODS[method]
    target = setting.target if target is None else target
    if row.infills:
        decoder = row.make(Parts(target.model, setting.draft.model, length=length, nodes=nodes))
        params = {"target": target.params}
        key = getattr(getattr(decoder, "drafter", None), "name", "target")
        if key != "target":
            params[key] = setting.draft.params
        drafts = length or 0
    else:
        own = METHODS["draft"].draft
        load = lambda checkpoint: setting.draft if checkpoint == own else load_any(checkpoint)
        decoder, params = assemble(row, target, length=length, nodes=nodes, load=load)
        drafts = decoder.width - 1
    return Variant(method if name is None else name, decoder, params, drafts, about)


def plain(model: Model, params: Any) -> Variant:
    """Plain decoding: the baseline."""
    return Variant("plain", METHODS["autoregressive"].make(Parts(model)), {"target": params})


def drafting(setting: Setting, length: int, **options: Any) -> Variant:
    """Speculation with the case's second model."""
    return build(setting, "draft", length, name=f"draft {length}", **options)


def by_ratio(setting: Setting, length: int) -> list[Variant]:
    """The pair under the verifiers that are exact in law rather than token by token."""
    rules = {"token": "token ratio", "block": "block verification"}
    return [
        build(setting, f"{family}-{rule}", length, name=f"{called}, {words} {length}")
        for family, called in (("draft", "draft"), ("lookup", "prompt lookup"))
        for rule, words in rules.items()
    ]


def controls(setting: Setting, length: int) -> list[Variant]:
    """A draft that must be accepted whole, and one that knows nothing."""
    target = setting.target
    drafter = jaxdec.drafters.model(target.model, length=length)
    # With all parameters zero every logit is zero: a uniform law at the draft's full cost.
    uniform = jax.tree.map(jnp.zeros_like, setting.draft.params)
    return [
        Variant(
            f"draft = target {length}",
            jaxdec.speculative(target.model, drafter=drafter),
            {"target": target.params, "draft": target.params},
            length,
            "control: accepts everything",
        ),
        dataclasses.replace(
            drafting(setting, length),
            name=f"uniform draft {length}",
            params={"target": target.params, "draft": uniform},
            about="control: accepts little, stays exact",
        ),
    ]
