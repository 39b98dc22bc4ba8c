"""Objectives: reconstruction + divergence. Only the divergence differs."""

from ._aggregate import WiSEALE
from ._base import Batch, Objective, Posterior
from ._baselines import ELBO, InfoVAE, WassersteinMMD
from ._overlap.function import log_mean_overlap

__all__ = [
    "ELBO",
    "OBJECTIVES",
    "Batch",
    "InfoVAE",
    "Objective",
    "Posterior",
    "WassersteinMMD",
    "WiSEALE",
    "log_mean_overlap",
]

#: Strings accepted by ``WiSEALETransformer(objective=...)``.
OBJECTIVES: dict[str, type[Objective]] = {
    "wiseale": WiSEALE,
    "elbo": ELBO,
    "infovae": InfoVAE,
    "wae": WassersteinMMD,
}
