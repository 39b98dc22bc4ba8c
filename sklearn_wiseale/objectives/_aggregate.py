r"""WiSE-ALE: the divergence of the aggregate posterior from the prior.

With posteriors :math:`q_i = \mathcal{N}(\mu_i, \operatorname{diag}(s_i))`, i = 1..N, and their
aggregate :math:`q = \frac1N \sum_i q_i`,

.. math::

    \mathrm{KL}(q \| p) = \mathbb{E}_q \log q + C, \qquad
    C = \tfrac{K}{2} \log 2\pi + \tfrac{1}{2N} \sum_{ik} (\mu_{ik}^2 + s_{ik}),

where only the first term lacks a closed form. Four estimates of it, ordered where they are bounds
(``moment`` <= KL <= ``jensen`` <= ``renyi``):

=============== ======================================================================
``moment``      :math:`-\frac12 \log\det(2\pi e S)`, S the aggregate's covariance
``monte_carlo`` :math:`\frac1N \sum_i \log \frac1N \sum_j q_j(z_i)`, z_i drawn from q_i
``jensen``      :math:`\frac1N \sum_i \log \frac1N \sum_j O_{ij}`
``renyi``       :math:`\log \frac1{N^2} \sum_{ij} O_{ij}`
=============== ======================================================================
"""

from __future__ import annotations

import math
from typing import Any

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from ._base import NON_NEGATIVE, Batch, Objective, Posterior
from ._overlap import log_mean_overlap

__all__ = ["BOUNDS", "AggregateKL", "WiSEALE", "aggregate_kl_bound"]

BOUNDS = ("jensen", "renyi", "moment", "monte_carlo")

# weight="auto": a share of the weight D / K at which codes collapse, and its upper limit
_AUTO_SHARE = 0.08
_MAX_AUTO_WEIGHT = 10.0


def cross_entropy(posterior: Posterior) -> Tensor:
    """Cross-entropy C of the aggregate relative to the prior: a scalar, nats."""
    mean, log_var = posterior
    second_moment = (mean.square() + log_var.exp()).sum() / len(mean)
    return 0.5 * (mean.shape[1] * math.log(2 * math.pi) + second_moment)


def moment_kl(posterior: Posterior) -> Tensor:
    """KL of the Gaussian with the aggregate's mean and covariance: a scalar, nats.

    The posteriors' own variances keep the covariance S positive definite even when there are
    fewer rows than components, where the covariance of draws would be singular. S is never
    formed: the QR decomposition of a root of it, in float64, keeps digits that S would lose.
    """
    mean, log_var = posterior
    centre = mean.mean(dim=0)
    spread = torch.diag(log_var.exp().mean(dim=0).sqrt())
    root = torch.cat([spread, (mean - centre) / math.sqrt(len(mean))])  # S = root^T root
    root = (root.cpu() if root.device.type == "mps" else root).double()  # MPS has no float64
    half_log_det = torch.linalg.qr(root).R.diagonal().abs().log().sum()
    second_moment = root.square().sum() + centre.square().sum()
    return (0.5 * (second_moment - mean.shape[1]) - half_log_det).to(mean)


def aggregate_kl_bound(posterior: Posterior, bound: str, z: Tensor | None = None) -> Tensor:
    """Bound or estimate of KL(q || p) for the aggregate of the given posteriors.

    Parameters
    ----------
    posterior : Posterior of n rows

    bound : {"jensen", "renyi", "moment", "monte_carlo"}

    z : Tensor of shape (n, K), default=None
        One draw from each posterior; needed by "monte_carlo" alone.

    Returns
    -------
    Tensor, scalar
        In nats.
    """
    if bound == "moment":
        return moment_kl(posterior)
    mean, log_var = posterior
    if bound == "monte_carlo":
        assert z is not None
        points = torch.full_like(z, -math.inf)  # log-variance of a point
        negative_entropy = log_mean_overlap(z, points, mean, log_var).mean()
    elif bound == "jensen":
        negative_entropy = log_mean_overlap(mean, log_var).mean()
    else:
        rows = log_mean_overlap(mean, log_var)
        negative_entropy = torch.logsumexp(rows, dim=0) - math.log(len(rows))
    return negative_entropy + cross_entropy(posterior)


class AggregateKL(nn.Module):
    """``weight`` times a bound on KL(aggregate posterior || prior), over the batch."""

    def __init__(self, bound: str, weight: float) -> None:
        super().__init__()
        self.bound = bound
        self.weight = weight

    def forward(self, posterior: Posterior, z: Tensor, batch: Batch) -> Tensor:
        """Divergence of the batch's aggregate: a scalar, nats."""
        return self.weight * aggregate_kl_bound(posterior, self.bound, z)


class WiSEALE(Objective):
    r"""Wide-sample estimator: reconstruction + weight * KL(aggregate posterior || prior).

    .. math::

        \mathcal{L} = \frac1N \sum_i \mathbb{E}_{q_i} \log p(x_i | z)
                      - \text{weight} \cdot \mathrm{KL}\Big(\frac1N \sum_i q_i \,\Big\|\, p\Big)

    Where the ELBO asks every single posterior to look like the prior, this asks it of their
    mixture: a sample's posterior may be narrow and lie anywhere as long as the bulk of the
    codes fills the prior.

    Parameters
    ----------
    bound : {"jensen", "renyi", "moment", "monte_carlo"}, default="jensen"
        How KL(q || p) is computed. "jensen" and the looser "renyi" are upper bounds, "moment"
        (the KL of the Gaussian with the same mean and covariance) is a lower bound and
        "monte_carlo" an estimate from one draw of each posterior.

    weight : float or "auto", default="auto"
        Multiplies the divergence; 0 leaves an autoencoder with noise on its codes. "auto" is
        ``min(10, 0.08 * n_features / n_components)``, see Notes.

    See Also
    --------
    ELBO : Charges for every sample's own posterior.

    Notes
    -----
    With a Gaussian likelihood whose noise is learned, D features, K components and non-overlapping
    posteriors, a linear model at its optimum has posterior variances such that each component
    adds weight * noise variance to the residual R that K components leave, so that

    .. math::

        \text{noise variance} = R / (D - \text{weight} \cdot K).

    A weight above D / K makes the codes collapse. "auto" spends a share of that budget, and never
    more than a weight of 10: features are redundant where there are many.

    References
    ----------
    Lin, Clark, Birke, Trigoni, Roberts (2019), *WiSE-ALE: Wide Sample Estimator for Approximate
    Latent Embedding*, arXiv:1902.06160.

    Examples
    --------
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.objectives import WiSEALE
    >>> WiSEALETransformer(objective=WiSEALE(bound="moment", weight=5.0))
    WiSEALETransformer(objective=WiSEALE(bound='moment', weight=5.0))
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "bound": [StrOptions(set(BOUNDS))],
        "weight": [*NON_NEGATIVE, StrOptions({"auto"})],
    }

    def __init__(self, bound: str = "jensen", weight: float | str = "auto") -> None:
        self.bound = bound
        self.weight = weight

    def build(self, n_features: int, n_components: int) -> AggregateKL:
        """Return the divergence as a torch module."""
        self.check_parameters()
        weight = self.weight
        if weight == "auto":
            weight = min(_MAX_AUTO_WEIGHT, _AUTO_SHARE * n_features / n_components)
        return AggregateKL(self.bound, float(weight))
