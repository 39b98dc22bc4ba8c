"""Likelihoods p(x|z), for reconstruction, sampling and score.

A likelihood is a specification: it has parameters only. Its ``build`` returns an
:class:`Observation`, a torch module that takes the decoder's output, one number per column. Both
work on scaled data.
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
from ._student_t import StudentT

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
    "StudentT",
]

#: Strings accepted by ``WiSEALETransformer(likelihood=...)``.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "student_t": StudentT,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "categorical": Categorical,
}
