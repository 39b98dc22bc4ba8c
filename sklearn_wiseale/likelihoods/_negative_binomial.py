"""Negative binomial likelihood of counts with variances larger than their means."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .._data.validation import Interval, StrOptions
from ._base import batch_mean
from ._poisson import CountObservation, Counts

__all__ = ["NegativeBinomial"]

#: Limits of the dispersion. The lower one gives the Poisson likelihood for counts up to a million.
_DISPERSION = (1e-6, 1e4)
#: For larger inverse dispersions, Stirling's series is exact to 1e-13.
_STIRLING = 30.0
_N_STEPS = 3  # of ``calibrate``


class NegativeBinomial(Counts):
    r"""Negative binomial likelihood of counts: the decoder's outputs are log-means.

    A Poisson variable whose rate has a gamma distribution: mean :math:`\mu = e^{f(z)}` and
    variance :math:`\mu + \alpha \mu^2`, with the dispersion :math:`\alpha` (NB2 of Cameron and
    Trivedi). A learned dispersion is a running moment estimate, weighted by the precision of each
    squared residual at the current dispersion (pseudo-likelihood of Davidian and Carroll),

    .. math::

        \alpha = \frac{\sum w^2 \left((x - \mu)^2 - \mu\right)}{\sum w^2 \mu^2}, \qquad
        w = \frac{1}{1 + \alpha \mu},

    over :math:`z \sim q_i`. Both sums are running means. Without the weights, a few large counts
    would dominate. Counts are not scaled; the input of the encoder is :math:`\log(1 + x)`,
    standardised.

    Parameters
    ----------
    dispersion : {"shared", "feature"} or float, default="shared"
        "shared" learns one dispersion for all columns, "feature" one per column. A float, from
        1e-6 to 1e4, is a fixed dispersion.

    References
    ----------
    Cameron, Trivedi (2013), *Regression Analysis of Count Data*, second edition, section 3.3.

    Davidian, Carroll (1987), *Variance Function Estimation*, Journal of the American Statistical
    Association 82.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_wiseale.likelihoods import NegativeBinomial
    >>> NegativeBinomial(dispersion="feature")
    NegativeBinomial(dispersion='feature')
    >>> NegativeBinomial(dispersion=0.5).most_likely(np.array([[0.4, 9.0]]))
    array([[0., 4.]])
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "dispersion": [
            StrOptions({"shared", "feature"}),
            Interval(Real, *_DISPERSION, closed="both"),
        ]
    }

    def __init__(self, dispersion: str | float = "shared") -> None:
        self.dispersion = dispersion

    def most_likely(self, X: np.ndarray) -> np.ndarray:
        """Return the mode, the integer part of ``mean * (1 - dispersion)``, at least 0.

        This object does not know a learned dispersion. It then returns the Poisson mode, which is
        at least as large. For the exact mode, pass the learned
        ``net_.module_.likelihood.dispersion`` as a float.
        """
        share = 1.0 if isinstance(self.dispersion, str) else max(1.0 - self.dispersion, 0.0)
        return np.floor(X * share)

    def build(
        self, residual_variance: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> NegativeBinomialCounts:
        self.check_parameters()
        if isinstance(self.dispersion, str):
            explained = np.maximum(variance - residual_variance, 0.0)
            excess, square = residual_variance - mean, mean**2 + explained
            if self.dispersion == "shared":
                excess, square = np.atleast_1d(excess.mean()), np.atleast_1d(square.mean())
        else:
            excess, square = np.array([float(self.dispersion)]), np.ones(1)
        return NegativeBinomialCounts(
            mean, variance, excess, square, learned=isinstance(self.dispersion, str)
        )


class NegativeBinomialCounts(CountObservation):
    """Negative binomial observation with a running estimate of the dispersion."""

    #: Weight of a batch in the running means, over about 20 batches.
    rate = 0.05

    excess: Tensor
    square: Tensor

    def __init__(
        self,
        mean: np.ndarray,
        variance: np.ndarray,
        excess: np.ndarray,
        square: np.ndarray,
        *,
        learned: bool,
    ) -> None:
        super().__init__(mean, variance)
        self.learned = learned
        # running weighted means of (x - mu)^2 - mu and of mu^2: (1,) or (n_features,)
        self.register_buffer("excess", torch.tensor(excess))
        self.register_buffer("square", torch.tensor(square))

    @property
    def dispersion(self) -> Tensor:
        """Dispersion, (1,) or (n_features,)."""
        tiny = torch.finfo(self.square.dtype).tiny
        ratio = self.excess / self.square.clamp(min=tiny)
        return ratio.clamp(*_DISPERSION) if self.learned else ratio

    def log_prob_entries(self, x: Tensor, output: Tensor) -> Tensor:
        alpha = self.dispersion
        r = alpha.reciprocal()
        # log Gamma(x + r) - log Gamma(r) + x log alpha; for large r in a form without cancellation
        direct = torch.lgamma(x + r) - torch.lgamma(r) + x * alpha.log()
        series = (x + r - 0.5) * torch.log1p(alpha * x) - x + _rest(x + r) - _rest(r)
        volume = torch.where(r > _STIRLING, series, direct) - torch.lgamma(x + 1.0)
        return volume + x * output - (x + r) * F.softplus(output + alpha.log())

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        alpha = self.dispersion
        shape = alpha.reciprocal().expand_as(output).contiguous()
        # torch.distributions.Gamma calls the same function but takes no generator
        gamma = torch._standard_gamma(shape, generator=generator)
        return self.draw(gamma * alpha * self.mean(output), generator)

    def information_entries(self, output: Tensor) -> Tensor:
        alpha = self.dispersion
        return torch.sigmoid(output + alpha.log()) / alpha

    @torch.no_grad()
    def update(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        if not self.learned:
            return
        for running, values in zip((self.excess, self.square), self._terms(x, output), strict=True):
            target = batch_mean(values, observed, running)
            running.lerp_(target.where(target.isfinite(), running), self.rate)

    @torch.no_grad()
    def calibrate(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        if not self.learned:
            return
        for _ in range(_N_STEPS):  # scale all dispersions by the factor for which moments agree
            excess, square = (self.masked(values, observed) for values in self._terms(x, output))
            alpha = self.dispersion
            factor = excess.sum() / (alpha * square).sum()
            excess = (alpha * factor).clamp(*_DISPERSION) * self.square
            self.excess.copy_(excess.where(factor.isfinite(), self.excess))

    def _terms(self, x: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted (x - mu)^2 - mu and mu^2 of each entry."""
        mean = self.mean(output)
        scale = 1.0 + self.dispersion * mean
        return ((x - mean) / scale).square() - mean / scale.square(), (mean / scale).square()


def _rest(r: Tensor) -> Tensor:
    """Return the correction of Stirling's formula for log Gamma(r), up to terms of order r^-7."""
    inverse = r.reciprocal()
    square = inverse.square()
    return inverse * (1 / 12 - square * (1 / 360 - square / 1260))
