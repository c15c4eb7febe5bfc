"""The shipped pair by the clock."""

from benchmarks import costs
from benchmarks.case import CAUSAL, Case
from benchmarks.columns import COST, METHOD, SPEED, TEMPERATURE, Row, word
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.timed import compare, compile_all
from benchmarks.variants import build, controls, drafting, plain
from benchmarks.workload import Workload


def run(setting: Setting) -> list[Row]:
    """One row a method, temperature and batch."""
    scale, rows = setting.scale, []
    middle = scale.lengths[len(scale.lengths) // 2]
    longest = scale.lengths[-1]
    speculations = [drafting(setting, length) for length in scale.lengths]
    speculations.append(build(setting, "lookup", longest, name=f"prompt lookup {longest}"))
    speculations += controls(setting, middle)
    variants = [plain(setting.target.model, setting.target.params), *speculations]
    known: dict[int, dict[str, costs.Costs]] = {}
    places = [(batch, t) for batch in scale.batches for t in scale.temperatures]
    for batch, temperature in each(places, "batch {0[0]}, temperature {0[1]:g}".format):
        held = setting.prompts(max(batch, scale.prompts))
        workload = Workload(held, batch, scale.tokens, temperature)
        compile_all(variants, workload)
        if batch not in known:  # the cost of a forward does not depend on the temperature
            known[batch] = costs.measure(
                speculations, workload, steps=scale.steps, repeats=scale.repeats
            )
        rows += compare(setting, variants, workload, known[batch])[0]
    return rows


CASE = Case(
    name="pair",
    order=1,
    about="The shipped pair: plain, a draft model, prompt lookup and two controls, by batch and temperature.",
    models=CAUSAL,
    columns=(("batch", word("batch")), TEMPERATURE, METHOD, *SPEED, *COST),
    legend="",
    labels=("batch", "temperature", "method"),
    run=run,
)
