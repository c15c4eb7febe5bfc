"""Speculation with what was trained for it: heads and layers on the target, masked models."""

from collections.abc import Callable, Mapping

from jaxdec.catalogue.method import Parts
from jaxdec.catalogue.speculation.family import TREES, Family, SampleDrafter, draft_model
from jaxdec.decoding import Decoder
from jaxdec.model import Heads, Model, Params, mask_blocks
from jaxdec.speculative import Drafter, Growth, RankTree, drafters, growth, speculative
from jaxdec.speculative.drafters import diffuspec


def _heads(parts: Parts) -> Drafter:
    if not isinstance(parts.draft, Heads):
        got = "none" if parts.draft is None else "a model"
        raise ValueError(f"drafting with heads needs heads on the target, got {got}")
    return drafters.heads(parts.draft, growth=_likeliest(parts, parts.draft.heads))


def _eagle(parts: Parts) -> Drafter:
    return drafters.eagle(draft_model(parts), growth=_likeliest(parts, 8))


def _falcon(parts: Parts) -> Drafter:
    draft = draft_model(parts)
    config = getattr(draft.init_cache, "config", None)
    return drafters.falcon(draft, block=getattr(config, "block", 2), growth=_likeliest(parts, 8))


def _dflash(parts: Parts) -> Drafter:
    block = 16 if parts.block is None else parts.block
    length = block - 1 if parts.length is None else min(parts.length, block - 1)
    return drafters.dflash(draft_model(parts), block=block, growth=growth.chain(length))


def _likeliest(parts: Parts, length: int) -> Growth:
    """The likeliest paths of at most `length` levels."""
    depth = length if parts.length is None else min(parts.length, length)
    nodes = 64 if parts.nodes is None else parts.nodes
    return growth.best_first(nodes, depth, siblings=min(8, parts.target.vocab_size))


def _two_roles(target: Model) -> Model:
    from jaxdec.testing import oracles

    return oracles.mask_blocks(target, 4)


def _canvas(parts: Parts) -> Drafter:
    length = 16 if parts.length is None else parts.length
    shortest = min(4, length)
    return diffuspec(draft_model(parts), length=length, shortest=shortest, block=parts.block)


def _oracle_heads(
    target: Model, reads_path: bool, rule: Growth
) -> tuple[Drafter, Mapping[str, Params]]:
    from jaxdec.testing.heads import oracle_heads

    heads, params = oracle_heads(target.vocab_size, 3, reads_path=reads_path)
    return drafters.heads(heads, growth=rule), {"draft": params}


def _sample_heads(reads_path: bool) -> SampleDrafter:
    rule = growth.best_first(7, 3, width=2, siblings=3)
    return lambda target, draft: _oracle_heads(target, reads_path, rule)


def _static_medusa(target: Model, draft: Model) -> tuple[Decoder, Mapping[str, Params]]:
    rule = growth.ranked(RankTree.of((-1, -1, 0, 0, 1, 2)))
    drafter, params = _oracle_heads(target, False, rule)
    return speculative(target, drafter=drafter), params


def _sample_eagle(target: Model, draft: Model) -> Drafter:
    from jaxdec.testing.heads import featured

    return drafters.eagle(featured(draft), growth=growth.best_first(9, 3, width=3, siblings=3))


def _sample_network(kind: str, make: Callable[..., Drafter]) -> SampleDrafter:
    def sample(target: Model, draft: Model) -> tuple[Drafter, Mapping[str, Params]]:
        from jaxdec.testing.heads import small_network

        model, params = small_network(kind, target.vocab_size)
        rule = growth.best_first(9, 3, width=3, siblings=3)
        return make(model, growth=rule), {"draft": params}

    return sample


def _sample_eagle3(target: Model, draft: Model) -> Drafter:
    from jaxdec.testing.heads import featured

    fused = featured(draft, taps=(2, 1, 4), never=2)
    return drafters.eagle(fused, growth=growth.best_first(9, 3, width=3, siblings=3))


def _sample_dflash(target: Model, draft: Model) -> Drafter:
    from jaxdec.testing.heads import block_filler

    return drafters.dflash(block_filler(draft, taps=(3, 1)), block=4)


def _sample_canvas(target: Model, draft: Model) -> tuple[Drafter, Mapping[str, Params]]:
    from jaxdec.testing import oracles

    model, params = oracles.hash_oracle(target.vocab_size - 1, seed=5)
    drafter = diffuspec(oracles.canvas(model), length=4, shortest=2, candidates=2, beams=2)
    return drafter, {"draft": params}


FAMILIES = [
    Family(
        "medusa",
        "Medusa: heads on the target",
        "2401.10774",
        _heads,
        (*TREES, "typical"),
        draft="code-medusa",
        tests="tests/speculative/test_head_drafters.py",
        sample=_sample_heads(reads_path=False),
        variants={"a static tree": _static_medusa},
    ),
    Family(
        "hydra",
        "Hydra: heads on the target that read the path",
        "2402.05109",
        _heads,
        (*TREES, "typical"),
        draft="code-hydra",
        tests="tests/speculative/test_head_drafters.py",
        sample=_sample_heads(reads_path=True),
    ),
    Family(
        "eagle",
        "EAGLE: a layer that extrapolates the target's features",
        "2401.15077, 2406.16858",
        _eagle,
        (*TREES, "near"),
        draft="code-eagle",
        tests="tests/speculative/test_head_drafters.py",
        sample=_sample_eagle,
    ),
    Family(
        "falcon",
        "Falcon: a layer that extrapolates the target's features several at a time",
        "2412.12639",
        _falcon,
        TREES,
        draft="code-falcon",
        tests="tests/speculative/test_block_drafters.py",
        sample=_sample_network("falcon", drafters.falcon),
    ),
    Family(
        "chimera",
        "Chimera: features of three tokens and a layer over the target's states",
        "2402.15758",
        _eagle,
        TREES,
        draft="code-chimera",
        tests="tests/speculative/test_block_drafters.py",
        sample=_sample_network("chimera", drafters.eagle),
    ),
    Family(
        "eagle-3",
        "EAGLE-3: a layer over the fused states of three layers of the target, a reduced vocabulary",
        "2503.01840",
        _eagle,
        TREES,
        heads="eagle3",
        tests="tests/speculative/test_public_heads.py",
        benchmarks=("", ""),
        sample=_sample_eagle3,
    ),
    Family(
        "dflash",
        "DFlash: a block of masks filled at once from the target's states",
        "2602.06036",
        _dflash,
        ("walk", "token"),
        heads="dflash",
        tests="tests/speculative/test_public_heads.py",
        benchmarks=("", ""),
        sample=_sample_dflash,
    ),
    Family(
        "tidar",
        "TiDAR: masks after each scored token are filled in its forward (no model trained so is shipped)",
        "2511.08923",
        lambda parts: drafters.mask_block(length=7 if parts.length is None else parts.length),
        ("walk", "token"),
        tests="tests/speculative/test_mask_block.py",
        benchmarks=("", ""),
        sample=lambda target, draft: drafters.mask_block(length=3),
        sample_target=_two_roles,
        target=lambda parts: mask_blocks(
            parts.target,
            parts.target.vocab_size - 1,
            size=8 if parts.length is None else parts.length + 1,
        ),
    ),
    Family(
        "diffuspec",
        "speculation with a masked model as the drafter",
        "2510.02358",
        _canvas,
        ("walk", "margin"),
        draft="code-block",
        tests="tests/diffusion/test_diffuspec.py",
        benchmarks=("diffusion", ""),
        sample=_sample_canvas,
    ),
]
