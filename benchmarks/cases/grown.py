"""Speculation on targets of growing cost."""

import jax

import jaxdec
from benchmarks import costs
from benchmarks.case import CAUSAL, Case, Figures
from benchmarks.columns import COST, METHOD, SIZE, SPEED, Row, number
from benchmarks.grown import GROWN, at_size, sizes
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.timed import compare, compile_all
from benchmarks.variants import drafting, plain
from benchmarks.workload import Prompts, Variant, Workload
from jaxdec.checkpoints import Checkpoint
from jaxdec.measuring.comparison import identical


def run(setting: Setting) -> list[Row]:
    """One row a method and target; the length is chosen on other prompts than those that are timed."""
    scale, rows = setting.scale, []
    batch = scale.batches[0]
    held = setting.prompts(2 + batch)  # two to time, the others to tune on
    reference = None
    for sized in each(sizes(setting, scale.grown)):
        target = sized.checkpoint
        variants = [plain(target.model, target.params)]
        variants += [drafting(setting, length, target=target) for length in scale.lengths]
        workload = Workload(held[:2], batch, scale.tokens, 0.0)
        compile_all(variants, workload)
        known = costs.measure(variants[1:], workload, steps=scale.steps, repeats=scale.repeats)
        auto = chosen(setting, target, held[2:])
        if auto.length:
            known["auto"] = known[f"draft {auto.length}"]
        new, text = compare(setting, [*variants, auto], workload, known, **sized.labels)
        reference = text if reference is None else reference
        for row in new:
            row["same_text_as_shipped"] = identical(text, reference)
        rows += new
    return rows


def chosen(setting: Setting, target: Checkpoint, held: Prompts) -> Variant:
    """The draft length that is fastest on some prompts."""
    params = {"target": target.params, "draft": setting.draft.params}
    choice = jaxdec.auto_draft_length(
        target.model,
        lambda length: jaxdec.drafters.model(setting.draft.model, length=length),
        params,
        held.tokens,
        rng=jax.random.key(1),
        lengths=setting.scale.lengths,
        # Fewer than are timed, but of the same bucket: nothing compiles again.
        new_tokens=3 * setting.scale.tokens // 4,
        prompt_lengths=held.lengths,
        temperature=0.0,
        eos=(),
    )
    return Variant("auto", choice.decoder, params, choice.length, f"chose {choice.length}")


def figures(rows: list[Row]) -> dict[str, Figures]:
    """Of plain decoding, and of the length in the middle."""
    held = at_size(rows)
    lengths = sorted(row["draft_length"] for row in held if row["method"].startswith("draft"))
    middle = f"draft {lengths[len(lengths) // 2]}"
    by_name = {row["method"]: row for row in held}
    return {
        "autoregressive": Figures(by_name["plain"]["tokens_per_forward"], 1.0),
        "draft": Figures(by_name[middle]["tokens_per_forward"], by_name[middle]["wall_ratio"]),
    }


CASE = Case(
    name="grown",
    order=2,
    about=(
        "Targets of growing cost and equal text at temperature 0: plain, some lengths, and the automatic one. "
        "The length is chosen on other prompts than those that are timed."
    ),
    models=CAUSAL,
    columns=(
        *SIZE,
        METHOD,
        *SPEED,
        *COST,
        ("text of the shipped target", number("same_text_as_shipped", ".2%")),
    ),
    legend=GROWN,
    labels=("target", "parameters", "method"),
    run=run,
    by_clock=("auto",),
    figures=figures,
)
