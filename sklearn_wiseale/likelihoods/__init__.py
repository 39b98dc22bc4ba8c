"""Likelihoods: the observation model p(x|z) behind reconstruction, sampling and score.

A likelihood is a specification (parameters alone); its ``build`` returns an :class:`Observation`,
the torch module that reads the decoder's output, one number for each column. Both work on scaled
data; the estimator knows the scaling.
"""

from ._base import Likelihood, Observation
from ._bernoulli import Bernoulli
from ._bernoulli import BernoulliBits as BernoulliBits
from ._categorical import Categorical
from ._gaussian import NOISE_FLOOR as NOISE_FLOOR
from ._gaussian import Gaussian
from ._gaussian import GaussianNoise as GaussianNoise
from ._mixed import Mixed
from ._negative_binomial import NegativeBinomial
from ._poisson import Poisson

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "Likelihood",
    "Mixed",
    "NegativeBinomial",
    "Observation",
    "Poisson",
]

#: What the strings accepted by ``WiSEALETransformer(likelihood=...)`` stand for.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "categorical": Categorical,
}
