"""The first-hitting sampler."""

from jaxdec.arguments import typed
from jaxdec.diffusion.unmask.quota import Quota, quota


@typed
def first_hitting(*, steps: int = 0) -> Quota:
    """First-hitting sampler: one uniformly chosen position a step.

    The times at which the reverse process first unmasks a position, `t <- t u^(1/n)` with n positions left, are needed
    by models that read the time alone; what remains for others is the order, which is uniform.

    Args:
      steps: of each group (knob); 0 for the exact sampler, else the parallel form.

    Exactness: with `steps=0` the law is the uniform mixture over all orders of the model's sequential laws, which is
    the limit of ancestral sampling with ever smaller steps, and the joint law of a model whose orders agree.

    Source: 2409.02908.
    """
    return quota("random", steps=steps)
