"""Every method of the catalogue is assembled from checkpoints, whatever it decodes."""

import dataclasses
import functools
from types import SimpleNamespace

import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import any_subset, catalogue, diffusion, search
from jaxdec.catalogue.assembly import assemble, assemble_search
from jaxdec.checkpoints import Checkpoint, HeadsCheckpoint
from jaxdec.model import from_nnx
from jaxdec.models import (
    DFlashConfig,
    Eagle3Config,
    HeadsConfig,
    Transformer,
    TransformerConfig,
    build_heads,
    huggingface,
)
from jaxdec.models.heads import LAYERS
from jaxdec.models.huggingface import draft_heads

V, WIDTH = 9, 8
CONFIG = TransformerConfig(
    vocab_size=V, width=WIDTH, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=12
)


@functools.cache
def checkpoint(fills=None):
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    if fills is not None:
        model = (any_subset.two_stream if fills == "subsets" else diffusion.canvas_model)(
            model, V - 1
        )
    block = 8 if fills == "blocks" else None
    return Checkpoint(
        f"tiny {fills}", model, params, CONFIG, {}, fills, None if fills is None else V - 1, block
    )


PUBLIC = {
    "eagle3": Eagle3Config(**dataclasses.asdict(CONFIG), taps=(0, 1)),
    "dflash": DFlashConfig(**dataclasses.asdict(CONFIG), taps=(0, 1), block=4),
}


def heads(kind, width=WIDTH):
    if kind in PUBLIC:
        config = PUBLIC[kind]
        drafting = draft_heads.network(huggingface.named(kind), config)
        block = 4 if kind == "dflash" else None
        return HeadsCheckpoint(kind, kind, drafting, {}, config, "tiny None", {}, block)
    fields = {f.name: getattr(CONFIG, f.name) for f in dataclasses.fields(CONFIG)}
    config = LAYERS[kind](**fields) if kind in LAYERS else HeadsConfig(V, width, 3)
    drafting, params = build_heads(kind, config)
    return HeadsCheckpoint(kind, kind, drafting, params, config, "tiny None", {})


def load(name):
    kind = name.removeprefix("code-")
    if kind in ("medusa", "hydra", *LAYERS, *PUBLIC):
        return heads(kind)
    return checkpoint({"block": "blocks", "infill-draft": "subsets"}.get(kind))


def target_of(method):
    return checkpoint("subsets" if method.infills else "canvas" if method.denoises else None)


@pytest.mark.parametrize("name", catalogue.METHODS)
def test_every_method(name):
    method = catalogue.METHODS[name]
    target = target_of(method)
    if method.weights is not None:  # some are words, some were trained for a target of this name
        words = SimpleNamespace(to_ids=lambda text: [1, 2])
        target = dataclasses.replace(target, tokenizer=words, name="code-target")
    decoder, params = assemble(
        method, target, draft=method.heads or None, length=3, nodes=32, load=load
    )
    assert decoder.exactness is method.exactness
    drafts = method.draft or method.heads
    own = {} if method.weights is None else method.weights(target)
    assert params.keys() == {"target", *own} | ({"draft"} if drafts else set())
    order = None
    if method.infills:
        visible = np.arange(8) < 3
        order = any_subset.lattice(visible[None])
    each = 4 if method.searches else 1
    prompt = np.ones((1, 3), int)
    jaxdec.prepare(decoder, params, prompt, max_new_tokens=5, order=order, hypotheses=each)


def test_a_target_of_blocks_is_decoded_in_its_blocks():
    decoder, _ = assemble(catalogue.METHODS["threshold"], checkpoint("blocks"))
    assert decoder.spans.one_way and decoder.schedule == diffusion.schedules.blocks(
        8, from_start=True
    )
    assert decoder.refresh == catalogue.REFRESH_RULES["block"]()
    smaller, _ = assemble(
        catalogue.METHODS["threshold"], checkpoint("blocks"), block=4, refresh="none"
    )
    assert smaller.schedule == diffusion.schedules.blocks(4, from_start=True)


@pytest.mark.parametrize(
    ("name", "fills", "options", "message"),
    [
        ("lookup", None, dict(draft="code-draft"), "takes no draft 'code-draft'"),
        ("threshold", "canvas", dict(draft="code-draft"), "takes no draft 'code-draft'"),
        ("lookup", None, dict(block=8), "decodes no canvas"),
        ("draft", None, dict(refresh="dual"), "decodes no canvas"),
        ("threshold", "subsets", {}, "not canvases"),
        ("threshold", None, {}, "causal"),
        ("threshold", "blocks", dict(block=9), "block is 9; .* up to 8"),
        ("fused", None, {}, "causal"),
        ("medusa", None, dict(load=lambda _: heads("medusa", 5)), "width 5, .* has 8"),
        ("medusa", None, dict(load=lambda _: checkpoint()), "got a model"),
        ("draft", None, dict(load=lambda _: heads("medusa")), "got draft heads"),
        ("eagle-3", None, {}, "drafts with eagle3 heads, and none are shipped"),
        ("dflash", None, dict(draft="eagle3"), "drafts with dflash heads, 'eagle3' holds eagle3"),
    ],
)
def test_refusals(name, fills, options, message):
    with pytest.raises(ValueError, match=message):
        assemble(catalogue.METHODS[name], checkpoint(fills), **{"load": load, **options})


def test_a_search_around_another_method():
    row, steps = catalogue.METHODS["a-star"], search.of_length(5)
    parts = dict(segment=steps, branches=2, scorer=search.scorers.log_prob(), m=None)
    inner = dict(inner=catalogue.METHODS["draft"], length=3, load=load)
    decoder, params = assemble_search(row, checkpoint(), **inner, **parts)
    assert params.keys() == {"target", "draft"}
    drafted = assemble(catalogue.METHODS["draft"], checkpoint(), length=3, load=load)[0]
    assert decoder == search.a_star(drafted, parts["scorer"], segment=steps, branches=2)
    assert assemble_search(row, checkpoint())[0] == assemble(row, checkpoint())[0]
    with pytest.raises(
        ValueError, match="'a-star' takes no m; it takes inner, segment, scorer, br"
    ):
        assemble_search(row, checkpoint(), m=2)
    with pytest.raises(ValueError, match="'draft' takes no segment; it takes nothing"):
        assemble_search(catalogue.METHODS["draft"], checkpoint(), segment=steps)
    with pytest.raises(ValueError, match="'a-star' drafts without a checkpoint"):
        assemble_search(row, checkpoint(), draft="code-draft")
