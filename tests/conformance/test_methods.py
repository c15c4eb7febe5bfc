"""Every method of the catalogue passes the battery that its declaration implies.

What a further method costs: its parts are tested by one program, in 1 to 4 seconds of one core; the loop (how rows end,
the settings that read the text before each token, streams), or the law of 100,000 draws, only with what is the first of
its kind. A law takes 3 to 12 seconds; those of all others are slow tests, and so are drafters under a second verifier,
where another drafter has that verifier already.
"""

import pytest

import jaxdec
from jaxdec import any_subset, catalogue
from jaxdec.catalogue.speculation import RULES
from jaxdec.decoding import Exactness
from jaxdec.testing import battery

SAMPLES = {
    name: (method, sample)
    for method in catalogue.METHODS.values()
    for name, sample in method.samples.items()
}


SEARCH = "jaxdec.search."
RELAXED = (Exactness.APPROXIMATE, Exactness.HEURISTIC)


def judge(decoder):
    """The kind of verifier; relaxed ones are one kind, whose laws have tests of their own."""
    verifier = getattr(decoder, "verifier", None)
    relaxed = getattr(verifier, "exactness", None) in RELAXED
    return "relaxed" if relaxed else type(verifier)


def covering():
    """Each drafter and each verifier once, in prompts and in orders; a pair whose halves stand elsewhere is slow.

    So are searches by a decoder that another search has: rules of a population, of beams, of routed steps; and canvases
    that differ from another in their policy alone: policies are asked on boards (`tests/diffusion/test_policies.py`);
    and plain decoding of other models.
    """
    model, _ = battery.pair()
    seen = set()
    for name, (method, sample) in SAMPLES.items():
        decoder, _ = battery.built(sample, model)
        rule = (judge(decoder), method.infills)
        base, _, suffix = name.rpartition("-")
        repeated = suffix in RULES and base in catalogue.METHODS and rule in seen
        search = type(decoder).__module__ if type(decoder).__module__.startswith(SEARCH) else ""
        canvas = parts_of_canvas(decoder) if method.denoises else ""
        plain = type(decoder) is jaxdec.Autoregressive and f"plain, {method.infills}"
        repeated |= {search, canvas, plain} & seen != set()
        seen |= {rule, search, canvas, plain} - {"", False}
        yield pytest.param(name, marks=pytest.mark.slow if repeated else ())


def parts_of_canvas(decoder):
    """What a canvas is made of beside its policy."""
    parts = (decoder.remask, decoder.resample, decoder.grow, decoder.fuse, decoder.stop)
    return *map(type, (*parts, decoder.schedule, decoder.refresh)), decoder.branches > 1


def first_of(kind):
    """The first method of each kind of decoder: those of one kind share what is tested of it."""
    model, _ = battery.pair()
    found = {}
    for name, (method, sample) in SAMPLES.items():
        decoder, _ = battery.built(sample, model)
        found.setdefault((method.infills, *kind(decoder)), name)
    return set(found.values())


def cut(decoder):
    """What cuts the tokens of a step, and ends rows."""
    remask = type(getattr(decoder, "remask", None))
    return type(decoder), judge(decoder), remask, getattr(decoder, "branches", 1) > 1


LOOPS = first_of(lambda decoder: [type(decoder)])
ENDS = first_of(cut) | {"sequoia", "eagle"}  # a tree, and drafts by the target's features


@pytest.mark.parametrize("name", list(covering()))
def test_it_holds(name, quick_compilation):
    """The parts of each method; how rows end, the settings that read text, and the loop, of the first of each kind."""
    method, sample = SAMPLES[name]
    checks = battery.PARTS + battery.ENDS * (name in ENDS) + battery.LOOPS * (name in LOOPS)
    report = battery.check(sample, orders=method.infills, checks=checks, read_left=name in ENDS)
    assert report.exactness == method.exactness.value


DRAWN = [
    name
    for name, (method, _) in SAMPLES.items()
    if method.exactness is Exactness.DISTRIBUTION_IDENTICAL
]
ONE_OF_EACH_VERIFIER = {
    "draft-token",
    "draft-block",
    "rsd-c-recursive",
    "assd-ngram-token",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ONE_OF_EACH_VERIFIER else pytest.mark.slow)
        for name in DRAWN
    ],
)
def test_the_laws_hold(name):
    method, sample = SAMPLES[name]
    battery.check(sample, orders=method.infills, checks=battery.LAW)


@pytest.mark.parametrize("orders", [False, True])
def test_plain_decoding_has_the_law_of_the_model(orders):
    """What is token-identical to plain decoding has its law; plain decoding itself must show it."""
    plain = lambda target, draft: jaxdec.autoregressive(target)
    battery.check_law(battery.Subject(plain, orders))


def test_parallel_sampling_of_one_token_a_forward_is_plain_decoding(quick_compilation):
    subject = battery.Subject(
        lambda target, draft: any_subset.parallel_sampling(target, width=1), orders=True
    )
    for case in battery.CASES:
        battery.compare_with_twin(
            battery.twin(case, battery.Kind.ORDERS, read_left=False),
            subject.free[case.name],
            "as plain decoding",
        )
