"""Objectives with which WiSE-ALE is compared."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from .._data.validation import Interval
from ._base import NON_NEGATIVE, Batch, Objective, Posterior, standard_normal_kl

__all__ = ["ELBO", "InfoVAE", "KLAndMMD", "WassersteinMMD", "squared_mmd"]

_KERNEL_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Sum of inverse multiquadratic kernels C / (C + ||a - b||^2), (n, m).

    C is 2 K, for a prior N(0, I), times several scales: Tolstikhin et al. 2018, section 4.
    """
    squared = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    base = 2.0 * a.shape[1]
    kernel = torch.zeros_like(squared)
    for scale in _KERNEL_SCALES:
        kernel = kernel + scale * base / (scale * base + squared)
    return kernel


def squared_mmd(z: Tensor, prior_sample: Tensor) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy of two samples.

    Gretton et al. 2012, equation 3. A sample of one row has no pairs; their mean is then replaced
    by the kernel at zero, a constant.

    Parameters
    ----------
    z : Tensor of shape (n, K)

    prior_sample : Tensor of shape (m, K)

    Returns
    -------
    Tensor, scalar
        Dimensionless; may be slightly negative.
    """

    def within(sample: Tensor) -> Tensor:
        kernel = _kernel(sample, sample)
        n = len(sample)
        return kernel.mean() if n == 1 else (kernel.sum() - kernel.trace()) / (n * (n - 1))

    return within(z) + within(prior_sample) - 2.0 * _kernel(z, prior_sample).mean()


class KLAndMMD(nn.Module):
    """``kl_weight`` * mean KL(q_i || p) + ``mmd_weight`` * squared MMD(z, prior)."""

    def __init__(self, kl_weight: float, mmd_weight: float) -> None:
        super().__init__()
        self.kl_weight = kl_weight
        self.mmd_weight = mmd_weight

    def forward(self, posterior: Posterior, z: Tensor, batch: Batch) -> Tensor:
        """Return the divergence of the batch, a scalar."""
        values = []
        if self.kl_weight:
            values.append(self.kl_weight * standard_normal_kl(posterior).mean())
        if self.mmd_weight:
            prior_sample = torch.empty_like(z).normal_(generator=batch.generator)
            values.append(self.mmd_weight * squared_mmd(z, prior_sample))
        return sum(values, start=z.new_zeros(())) if len(values) != 1 else values[0]


class ELBO(Objective):
    r"""Evidence lower bound of the variational autoencoder and the beta-VAE.

    Reconstruction + weight * mean :math:`\mathrm{KL}(q_i \| p)`.

    Parameters
    ----------
    weight : float, default=1.0
        The beta of the beta-VAE. With 1, the objective is a lower bound on the log-likelihood.

    References
    ----------
    Kingma and Welling (2014), *Auto-Encoding Variational Bayes*, arXiv:1312.6114;
    Higgins et al. (2017), *beta-VAE*, ICLR.

    Examples
    --------
    >>> from sklearn_wiseale.objectives import ELBO
    >>> ELBO(weight=4.0)
    ELBO(weight=4.0)
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def build(self, n_features: int, n_components: int) -> KLAndMMD:
        self.check_parameters()
        return KLAndMMD(float(self.weight), 0.0)


class InfoVAE(Objective):
    r"""InfoVAE, also called MMD-VAE.

    Reconstruction + (1 - alpha) * mean :math:`\mathrm{KL}(q_i \| p)`
    + (alpha + weight - 1) * squared MMD(aggregate, prior).

    Parameters
    ----------
    alpha : float in [0, 1], default=0.5
        Share of the mutual information between row and code that has no penalty.

    weight : float, default=10.0
        The lambda of the paper, at least ``1 - alpha``. ``alpha=0, weight=1`` is the ELBO,
        ``alpha=1`` is WAE-MMD with the same weight.

    References
    ----------
    Zhao, Song, Ermon (2017), *InfoVAE*, arXiv:1706.02262, equation 6.

    Examples
    --------
    >>> from sklearn_wiseale.objectives import InfoVAE
    >>> InfoVAE(alpha=1.0)
    InfoVAE(alpha=1.0)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "weight": NON_NEGATIVE,
    }

    def __init__(self, alpha: float = 0.5, weight: float = 10.0) -> None:
        self.alpha = alpha
        self.weight = weight

    def build(self, n_features: int, n_components: int) -> KLAndMMD:
        self.check_parameters()
        if self.alpha + self.weight < 1:
            raise ValueError(
                "The 'weight' parameter of InfoVAE must be at least 1 - alpha = "
                f"{1 - self.alpha:g}, or the MMD would be rewarded. Got {self.weight!r} instead."
            )
        return KLAndMMD(1.0 - self.alpha, self.alpha + self.weight - 1.0)


class WassersteinMMD(Objective):
    r"""Wasserstein autoencoder with the MMD penalty (WAE-MMD).

    Reconstruction + weight * squared MMD(aggregate, prior), with inverse multiquadratic kernels.

    Parameters
    ----------
    weight : float, default=10.0
        Factor of the squared MMD.

    References
    ----------
    Tolstikhin, Bousquet, Gelly, Schoelkopf (2018), *Wasserstein Auto-Encoders*,
    arXiv:1711.01558.

    Examples
    --------
    >>> from sklearn_wiseale.objectives import WassersteinMMD
    >>> WassersteinMMD(weight=100.0)
    WassersteinMMD(weight=100.0)
    """

    def __init__(self, weight: float = 10.0) -> None:
        self.weight = weight

    def build(self, n_features: int, n_components: int) -> KLAndMMD:
        self.check_parameters()
        return KLAndMMD(0.0, float(self.weight))
