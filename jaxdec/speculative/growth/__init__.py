"""Growth rules: the shapes that draft trees grow into."""

from jaxdec.speculative.growth.best_first import BestFirst, best_first
from jaxdec.speculative.growth.chain import chain
from jaxdec.speculative.growth.contract import Children, Frontier, Growth, Laws
from jaxdec.speculative.growth.fixed import Fixed, fixed
from jaxdec.speculative.growth.greedy_siblings import GreedySiblings, greedy_siblings
from jaxdec.speculative.growth.grow import grow
from jaxdec.speculative.growth.independent import Independent, independent
from jaxdec.speculative.growth.ranked import Ranked, ranked
from jaxdec.speculative.growth.siblings import own_noise, without_earlier_siblings
from jaxdec.speculative.growth.slots import Slots
from jaxdec.speculative.growth.stochastic_beam import StochasticBeam, stochastic_beam
from jaxdec.speculative.growth.threshold import ThresholdGrowth, threshold
from jaxdec.speculative.growth.weighed import Weighed, budgeted, largest, selected

__all__ = [
    "BestFirst",
    "Children",
    "Fixed",
    "Frontier",
    "GreedySiblings",
    "Growth",
    "Independent",
    "Laws",
    "Ranked",
    "Slots",
    "StochasticBeam",
    "ThresholdGrowth",
    "Weighed",
    "best_first",
    "budgeted",
    "chain",
    "fixed",
    "greedy_siblings",
    "grow",
    "independent",
    "largest",
    "own_noise",
    "ranked",
    "selected",
    "stochastic_beam",
    "threshold",
    "without_earlier_siblings",
]
